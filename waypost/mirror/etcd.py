"""Follows everything under one prefix of etcd: one list, then one watch, whatever the number of services."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping

from waypost.client.connection import Backoff
from waypost.client.registry.etcd.gateway import Compacted, EtcdGateway, EtcdStream, KeyValue, Listing
from waypost.client.registry.etcd.layouts import UNREADABLE, Layout
from waypost.client.registry.instance import Instance
from waypost.errors import RegistryUnavailable
from waypost.mirror.sets import NONE, Endpoints, believed
from waypost.model.names import is_service

_log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Endpoints]], None]
"""Is told of the services that changed: their endpoints as they are now, none for one that is gone."""


class EtcdSource:
    """See the module; one thread. `known` is what an earlier mirror has declared, and stays until etcd is heard of.

    An etcd without any service at all is not believed at the start when something is known: an empty one is sooner an
    accident than the truth. From then on its cluster and revision tell whether it is the one it was.
    """

    def __init__(
        self,
        gateway: EtcdGateway,
        layout: Layout,
        tell: Tell,
        *,
        known: Mapping[str, Endpoints],
        backoff: Backoff | None = None,
    ) -> None:
        self._gateway = gateway
        self._layout = layout
        self._tell = tell
        self._backoff = backoff or Backoff()
        self._known = dict(known)
        self._instances: dict[str, dict[str, Instance]] = {}
        self._cluster, self._revision = "", 0
        self._stream: EtcdStream | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirroring etcd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Return when the thread has ended."""
        self._closed.set()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> bool:
        """List everything once; return whether etcd was believed. Raises RegistryUnavailable."""
        listing = self._gateway.list(self._layout.prefix)
        found: dict[str, dict[str, Instance]] = {}
        for service, id, instance in self._read(listing.found):
            if instance is not None:
                found.setdefault(service, {})[id] = instance
        sets = {service: called for service, those in found.items() if (called := _endpoints(those.values()))}
        is_same = self._is_same_store(listing, has_any=bool(found))
        before, self._known = self._known, believed(sets, self._known, is_same_store=is_same)
        if not is_same:
            kept = sorted(self._known.keys() - sets.keys())
            _log.warning("etcd is emptied, older or another one: keeping %d services that it lacks", len(kept))
        self._instances = found
        self._cluster, self._revision = listing.cluster, listing.revision
        changed = {s: self._known.get(s, NONE) for s in before.keys() | self._known.keys()}
        self._tell({s: now for s, now in changed.items() if now != before.get(s, NONE)})
        return is_same

    def _run(self) -> None:
        has_listed = False
        while not self._closed.is_set():
            try:
                if not has_listed:
                    self.look()
                    has_listed = True
                elif not self._is_same_store(self._gateway.list(self._layout.prefix, keys_only=True), has_any=True):
                    has_listed = False
                    continue
                has_listed = self._follow()
            except RegistryUnavailable as error:
                if self._closed.is_set():
                    return
                if not self._backoff.failures:
                    _log.warning("%s: what was declared stays", error)
                self._closed.wait(self._backoff.next().total_seconds())

    def _is_same_store(self, listing: Listing, *, has_any: bool) -> bool:
        if not self._cluster:
            return has_any or not self._known
        return listing.cluster == self._cluster and listing.revision >= self._revision

    def _follow(self) -> bool:
        """Follow until the watch is cut, which raises; False: history is gone, list again."""
        self._stream = self._gateway.open_watch(self._layout.prefix, self._revision + 1)
        if self._closed.is_set():
            return True
        for part in self._stream.parts():
            if isinstance(part, Compacted):
                return False
            self._backoff.reset()
            if part.changes:
                self._fold(part.changes)
                self._revision = max(change.revision for change in part.changes)
        raise RegistryUnavailable("a watch of etcd ended")

    def _fold(self, changes: Iterable[KeyValue]) -> None:
        touched = set()
        for service, id, instance in self._read(changes):
            if instance is None and id not in self._instances.get(service, {}):
                continue  # nobody we knew of: that says nothing of those that are kept
            those = self._instances.setdefault(service, {})
            if instance is None:
                del those[id]
            else:
                those[id] = instance
            touched.add(service)
        told = {}
        for service in touched:
            now = _endpoints(self._instances[service].values())
            if not self._instances[service]:
                del self._instances[service]
            if now != self._known.get(service, NONE):
                self._known[service] = told[service] = now
        if told:
            self._tell(told)

    def _read(self, found: Iterable[KeyValue]) -> Iterable[tuple[str, str, Instance | None]]:
        """Yield service, id and instance; None: it is deleted, or cannot be read."""
        for item in found:
            service, slash, rest = item.key.removeprefix(self._layout.prefix).partition("/")
            if not slash or "/" in rest or not is_service(service):
                continue
            id = self._layout.id_of(item.key)
            instance = None
            if item.value is not None:
                try:
                    instance = self._layout.decode(service, item.key, item.value)
                except UNREADABLE as error:
                    _log.warning("%r in etcd cannot be read and is left out: %s", item.key, error)
            yield service, id, instance


def _endpoints(instances: Iterable[Instance]) -> Endpoints:
    return frozenset((each.address, each.port) for each in instances if each.is_callable)
