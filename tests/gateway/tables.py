"""Route tables in a real store, written as the job writes them: several services, and what is known of instances."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sinks.redis_routes import RedisRouteStore
from waypost.client.keys import Keys
from waypost.model.events import Attributes
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.lifecycle import Declared, Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication, digest
from waypost.model.service import InstanceView
from waypost.wire.endpoint import JsonRenderer

T0 = 1_795_298_407_272
"""Long ago for any clock of a test, so no store looks freshly opened."""
KEYS = Keys()


def an_endpoint(port: int, address: str = "127.0.0.1", weight: int = 100, zone: str = "") -> Attributes:
    return Attributes(address=address, port=port, weight=weight, zone=zone)


class TableWriter:
    """Writes whole tables; remembers them, to write them again into a store that lost them."""

    def __init__(self, url: str) -> None:
        self._store = RedisRouteStore(url, timeout=timedelta(seconds=30))
        self._revision = T0 * 1_000
        self._tables: dict[ServiceKey, tuple[Mapping[str, Attributes], Mapping[str, Attributes]]] = {}
        self.open()

    def open(self) -> None:
        opened = self._store.open(WriterId("a" * 32, 0), T0)
        assert isinstance(opened, Opened)
        self._epoch = opened.epoch

    def publish(
        self, service: ServiceKey, up: Mapping[str, Attributes], draining: Mapping[str, Attributes] | None = None
    ) -> None:
        """Make `up` the table of the service, and `draining` those of its instances that drain."""
        self._tables[service] = up, draining or {}
        self._write(service)

    def change(self, service: ServiceKey, up: Mapping[str, Attributes], instance: str) -> None:
        """Make `up` the table of the service, which differs from the one before in this instance alone."""
        self._tables[service] = up, {}
        renderer = JsonRenderer()
        routes = {id: renderer.route(attributes, T0) for id, attributes in up.items()}
        before, self._revision = self._revision, self._revision + 1
        publication = Publication(
            service=service, op=ChangeOp.DELTA, base=before, revision=self._revision, event_time=T0,
            routes={instance: routes[instance]}, instances={}, digest=digest(routes), endpoints=len(routes),
            rule="test",
        )  # fmt: skip
        assert self._store.publish(publication, self._epoch, T0) == Written()

    def rebuild(self) -> None:
        """Write everything again, as the job does after a wipe."""
        self.open()
        for service in self._tables:
            self._write(service)

    def close(self) -> None:
        self._store.close()

    def _write(self, service: ServiceKey) -> None:
        up, draining = self._tables[service]
        renderer = JsonRenderer()
        routes = {instance: renderer.route(attributes, T0) for instance, attributes in up.items()}
        instances = {
            instance: renderer.instance(_view(attributes, declared), T0)
            for declared, group in ((Declared.UP, up), (Declared.DRAINING, draining))
            for instance, attributes in group.items()
        }
        self._revision += 1
        publication = Publication(
            service=service, op=ChangeOp.SNAPSHOT, base=0, revision=self._revision, event_time=T0,
            routes=routes, instances=instances, digest=digest(routes), endpoints=len(routes), rule="test",
        )  # fmt: skip
        assert self._store.publish(publication, self._epoch, T0) == Written()


def _view(attributes: Attributes, declared: Declared) -> InstanceView:
    return InstanceView(
        attributes=attributes,
        declared=declared,
        health=Health.UNKNOWN,
        lease=Lease.LIVE,
        source="test",
        generation=T0,
        weight=attributes.weight,
    )
