"""`ServiceRegistry` on etcd.

A registration is one key under a lease of its own, 30 s by default, renewed three times per lease. When the lease has
ended (etcd was away longer, or the process was suspended), or somebody has deleted the key, it is written again, for
ever: the owner's word is the last one, so an instance is removed for good by whoever registered it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from waypost.client.registry.changes import changed, checked_changes
from waypost.client.registry.etcd.follower import Follower, decode_all, position_of
from waypost.client.registry.etcd.gateway import EtcdGateway, KeyValue, Tls
from waypost.client.registry.etcd.layouts import UNREADABLE, Layout, WaypostLayout
from waypost.client.registry.feed import ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance, checked, checked_id, checked_service
from waypost.client.registry.interface import ServiceRegistry
from waypost.client.registry.keeping import Keeper
from waypost.errors import NotSupported, RegistryUnavailable, UnknownInstance, UnknownService
from waypost.model.names import is_service

LEASE = timedelta(seconds=30)
"""How long a killed instance stays. Shorter, and a pause of the process or of etcd's leader takes the living away."""

_TRIES = 10


class EtcdRegistry(ServiceRegistry):
    """See the module. Connects at the first call. Does not own anything but what it made itself."""

    def __init__(
        self,
        *urls: str,
        tls: Tls | None = None,
        layout: Layout | None = None,
        lease: timedelta = LEASE,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._gateway = EtcdGateway(*urls, tls=tls)
        self._layout = layout or WaypostLayout()
        self._lease = lease
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[Keeper, _KeptKey]] = {}
        self._followers: set[Follower] = set()
        self.where = f"etcd at {', '.join(urls)}"

    # -- writing ---------------------------------------------------------------------------------------

    def register(self, instance: Instance) -> None:
        instance = checked(instance)
        kept = _KeptKey(self._gateway, self._layout, instance, self._lease, self._now_ms)
        who = (instance.name, instance.id)
        with self._lock:
            before = self._kept.pop(who, None)
        if before is not None:
            before[0].stop()  # or it could write its old address after the new one
        try:
            kept.write()
        except Exception:
            kept.forget()
            if before is not None:
                self._keep(who, before[1])
            raise
        if before is not None:
            before[1].forget()
        self._keep(who, kept)

    def update(self, service: str, instance: str, **changes: Any) -> None:
        checked_changes(changes)
        key = self._layout.key_of(checked_service(service), checked_id(instance))
        for _ in range(_TRIES):
            old = self._gateway.get(key)
            known = self._decoded(service, old)
            if old is None or known is None:
                raise UnknownInstance(service, instance, self.where)
            new = changed(known, changes)
            if self._layout.key(new) != key:
                raise NotSupported("in this layout the address is the id: register the new one, deregister the old one")
            new = replace(new, last_heartbeat=self._now_ms())
            if self._gateway.put_if_same(old, self._layout.encode(new)):
                with self._lock:
                    kept = self._kept.get((service, instance))
                if kept is not None:
                    kept[1].instance = new
                return
        raise RegistryUnavailable(f"{self.where}: {key} is being written by others all the time; try again")

    def deregister(self, service: str, instance: str) -> None:
        key = self._layout.key_of(checked_service(service), checked_id(instance))
        with self._lock:
            kept = self._kept.pop((service, instance), None)
        if kept is not None:
            kept[0].stop()
        self._gateway.delete(key)
        if kept is not None:
            kept[1].forget()

    def am_i_registered(self, service: str, instance: str) -> bool:
        return self._gateway.get(self._layout.key_of(checked_service(service), checked_id(instance))) is not None

    # -- reading ---------------------------------------------------------------------------------------

    def get_service(self, service: str) -> ServiceSnapshot:
        listing = self._gateway.list(f"{self._layout.prefix}{checked_service(service)}/")
        if not listing.found:
            raise UnknownService(service, self.where)
        found = decode_all(self._layout, service, listing.found)
        return ServiceSnapshot(
            service=service,
            instances={id: instance for id, instance in found.items() if instance is not None},
            position=position_of(listing.cluster, listing.revision),
        )

    def list_services(self) -> tuple[str, ...]:
        keys = (item.key for item in self._gateway.list(self._layout.prefix, keys_only=True).found)
        names = {key.removeprefix(self._layout.prefix).partition("/")[0] for key in keys}
        return tuple(sorted(filter(is_service, names)))

    def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> Watch:
        follower = Follower(
            self._gateway,
            self._layout,
            checked_service(service),
            after=after,
            grace=self._lease,
            now_ms=self._now_ms,
        )
        with self._lock:
            self._followers.add(follower)
        follower.start()
        return Watch(
            follower.feed, after=after, seen=None if after is None else 0, on_close=lambda: self._end(follower)
        )

    def close(self) -> None:
        with self._lock:
            kept, followers = list(self._kept.values()), list(self._followers)
            self._kept.clear()
        for keeper, _ in kept:
            keeper.stop()
        for follower in followers:
            self._end(follower)
        self._gateway.close()

    def _keep(self, who: tuple[str, str], kept: _KeptKey) -> None:
        keeper = Keeper(f"{who[1]} of {who[0]} in etcd", kept, self._lease)
        with self._lock:
            self._kept[who] = keeper, kept
        keeper.start()

    def _end(self, follower: Follower) -> None:
        follower.close()
        with self._lock:
            self._followers.discard(follower)

    def _decoded(self, service: str, item: KeyValue | None) -> Instance | None:
        if item is None or item.value is None:
            return None
        try:
            return self._layout.decode(service, item.key, item.value)
        except UNREADABLE:
            return None


class _KeptKey:
    """One key and its lease."""

    def __init__(
        self,
        gateway: EtcdGateway,
        layout: Layout,
        instance: Instance,
        lease: timedelta,
        now_ms: Callable[[], int],
    ) -> None:
        self.instance = instance
        self._gateway = gateway
        self._layout = layout
        self._length = lease
        self._now_ms = now_ms
        self._key = layout.key(instance)
        layout.encode(instance)  # what cannot be written is refused before etcd is asked for a lease
        self._lease = 0

    def write(self) -> None:
        before, self._lease = self._lease, self._gateway.grant(self._length)
        value = self._layout.encode(replace(self.instance, last_heartbeat=self._now_ms()))
        self._gateway.put(self._key, value, self._lease)
        self._revoke(before)

    def renew(self) -> bool:
        return self._gateway.keep_alive(self._lease) and self._gateway.get(self._key) is not None

    def forget(self) -> None:
        """Let the lease go, and with it the key if that is still under it. Out of reach, it ends by itself."""
        self._revoke(self._lease)

    def _revoke(self, lease: int) -> None:
        if lease:
            with contextlib.suppress(RegistryUnavailable):
                self._gateway.revoke(lease)
