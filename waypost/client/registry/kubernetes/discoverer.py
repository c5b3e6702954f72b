"""`Discoverer` on the EndpointSlices of one namespace.

A service is a Service of that name with at least one slice; Kubernetes makes one for each Service with a selector, also
when it selects nobody. It needs get, list and watch on endpointslices there and nothing else. Nobody registers here:
Kubernetes does, from the pods that a Service selects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from waypost.client.registry.feed import ServiceSnapshot, Watch
from waypost.client.registry.instance import checked_service
from waypost.client.registry.interface import Discoverer
from waypost.client.registry.kubernetes.follower import GRACE, Follower
from waypost.client.registry.kubernetes.position import place_of, position_of
from waypost.client.registry.kubernetes.slice_api import SliceApi
from waypost.client.registry.kubernetes.slices import ANY_PORT, SERVICE_LABEL, PortChoice, decode_slices, instances_of
from waypost.errors import InvalidName, UnknownService
from waypost.model.names import is_service

MAX_SERVICE = 63
"""Characters, because the name is the value of a label."""


class KubernetesDiscoverer(Discoverer):
    """See the module. It owns `api` and closes it."""

    def __init__(
        self,
        api: SliceApi,
        *,
        port: PortChoice = ANY_PORT,
        grace: timedelta = GRACE,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._api = api
        self._choice = port
        self._grace = grace
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self.where = f"Kubernetes at {api.server}, namespace {api.namespace}"

    def get_service(self, service: str) -> ServiceSnapshot:
        """As the interface says. Raises InvalidPort when it cannot be told where its instances listen."""
        listing = self._api.list(f"{SERVICE_LABEL}={_checked(service)}")
        if not listing.found:
            raise UnknownService(service, self.where)
        place = place_of(self._api.server, self._api.namespace, self._choice)
        return ServiceSnapshot(
            service=service,
            instances=instances_of(service, decode_slices(listing.found).values(), self._choice),
            position=position_of(place, listing.version),
        )

    def list_services(self) -> tuple[str, ...]:
        slices = decode_slices(self._api.list(SERVICE_LABEL).found).values()
        return tuple(sorted({piece.service for piece in slices if is_service(piece.service)}))

    def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> Watch:
        """As the interface says; `poll` raises InvalidPort too, when it could never be told where instances listen."""
        follower = Follower(
            self._api, self._choice, _checked(service), after=after, grace=self._grace, now_ms=self._now_ms
        )
        with self._lock:
            self._followers.add(follower)
        follower.start()
        return Watch(
            follower.feed, after=after, seen=None if after is None else 0, on_close=lambda: self._end(follower)
        )

    def close(self) -> None:
        with self._lock:
            followers = list(self._followers)
        for follower in followers:
            self._end(follower)
        self._api.close()

    def _end(self, follower: Follower) -> None:
        follower.close()
        with self._lock:
            self._followers.discard(follower)


def _checked(service: str) -> str:
    if len(checked_service(service)) > MAX_SERVICE:
        raise InvalidName("bad-service", f"a Service of Kubernetes has a name of at most {MAX_SERVICE} characters")
    return service
