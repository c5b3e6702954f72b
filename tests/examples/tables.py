"""Route tables in a real store, written as the job writes them."""

from __future__ import annotations

from datetime import timedelta

from sinks.redis_routes import RedisRouteStore
from waypost.model.events import Attributes
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication, digest
from waypost.wire.endpoint import Endpoint, encode_endpoint

T0 = 1_795_298_407_272


class TableWriter:
    """Writes whole tables of one service."""

    def __init__(self, url: str, service: ServiceKey) -> None:
        self._store = RedisRouteStore(url, timeout=timedelta(seconds=30))
        self._service = service
        self._revision = T0 * 1_000
        opened = self._store.open(WriterId("a" * 32, 0), T0)
        assert isinstance(opened, Opened)
        self._epoch = opened.epoch

    def publish(self, **endpoints: Endpoint) -> None:
        routes = {
            instance: encode_endpoint(Attributes(address=e.address, port=e.port, weight=e.weight), since=T0)
            for instance, e in endpoints.items()
        }
        self._revision += 1
        publication = Publication(
            service=self._service, op=ChangeOp.SNAPSHOT, base=0, revision=self._revision, event_time=T0,
            routes=routes, instances=routes, digest=digest(routes), endpoints=len(routes), rule="test",
        )  # fmt: skip
        assert self._store.publish(publication, self._epoch, T0) == Written()

    def close(self) -> None:
        self._store.close()
