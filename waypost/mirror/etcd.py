"""Follows everything under one prefix of etcd: one list, then one watch, whatever the number of services."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta

from waypost.client.connection import Backoff
from waypost.client.registry.etcd.gateway import Compacted, EtcdGateway, EtcdStream, KeyValue, Listing
from waypost.client.registry.etcd.layouts import UNREADABLE, Layout
from waypost.client.registry.instance import Instance
from waypost.errors import RegistryUnavailable
from waypost.mirror.sets import Endpoint, Endpoints
from waypost.mirror.source import Tell
from waypost.mirror.telling import Telling
from waypost.model.names import is_service

_log = logging.getLogger(__name__)

GRACE = timedelta(seconds=30)
"""Owners notice within a third of their lease that they have to register anew; Kitex's is 60 s, ours 30 s."""


class EtcdSource:
    """See the module; one thread. `known` is what an earlier mirror has declared. It owns `gateway` and closes it.

    An etcd without any service at all is not believed at the start when something is known: an empty one is sooner an
    accident than the truth. From then on its cluster and revision tell whether it is the one it was; if not,
    `waypost.mirror.memory` says what stays.
    """

    def __init__(
        self,
        gateway: EtcdGateway,
        layout: Layout,
        tell: Tell,
        *,
        known: Mapping[str, Endpoints],
        grace: timedelta = GRACE,
        backoff: Backoff | None = None,
    ) -> None:
        self._gateway = gateway
        self._layout = layout
        self._backoff = backoff or Backoff()
        self._telling = Telling(tell, known, grace)
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
        self._telling.close()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive():
            self._thread.join()
        self._gateway.close()

    def look(self) -> None:
        """List everything once. Raises RegistryUnavailable."""
        listing = self._gateway.list(self._layout.prefix)
        found: dict[str, dict[str, Instance]] = {}
        for service, id, instance in self._read(listing.found):
            if instance is not None:
                found.setdefault(service, {})[id] = instance
        with self._telling.lock:
            if not self._is_same_store(listing, has_any=bool(found)):
                _log.warning("etcd is emptied, older or another one: those it lacks stay for a while")
                self._telling.doubt(has_looked=bool(self._cluster))
            self._instances = found
            for service in self._telling.memory.has.keys() | found.keys():
                self._telling.memory.change(service, _endpoints(found.get(service, {}).values()))
            self._cluster, self._revision = listing.cluster, listing.revision
            self._telling.say_all()

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
            return has_any or not self._telling.told
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
                with self._telling.lock:
                    self._fold(part.changes)
                self._revision = max(change.revision for change in part.changes)
        raise RegistryUnavailable("a watch of etcd ended")

    def _fold(self, changes: Iterable[KeyValue]) -> None:
        gone: dict[str, set[Endpoint]] = {}
        for service, id, instance in self._read(changes):
            those = self._instances.setdefault(service, {})
            before = those.pop(id, None)
            if instance is not None:
                those[id] = instance
            gone.setdefault(service, set()).update([] if before is None else [(before.address, before.port)])
        for service, deleted in gone.items():
            self._telling.memory.change(service, _endpoints(self._instances[service].values()), deleted)
            if not self._instances[service]:
                del self._instances[service]
        self._telling.say(gone)

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
