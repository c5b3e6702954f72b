"""Follows the EndpointSlices of one namespace: one list, then one watch, whatever the number of Services; after a cut
it begins with a list again.

Kubernetes copies a Service's labels to its slices, so a label selector chooses Services here too. What may be called is
told: ready and not about to go. A Service of which it cannot be told where it listens stays as it was declared.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta

from waypost.client.connection import Backoff
from waypost.client.registry.kubernetes.position import is_older
from waypost.client.registry.kubernetes.slice_api import Change, Opened, SliceApi, SliceStream
from waypost.client.registry.kubernetes.slices import (
    ANY_PORT,
    SERVICE_LABEL,
    PortChoice,
    Slice,
    decode_slice,
    decode_slices,
    instances_of,
)
from waypost.errors import DecodeError, InvalidPort, RegistryUnavailable
from waypost.mirror.sets import NONE, Endpoints
from waypost.mirror.source import Tell
from waypost.mirror.telling import Telling
from waypost.model.names import is_service

_log = logging.getLogger(__name__)

GRACE = timedelta(seconds=30)
"""After a store was put back: how long pods may take to be in its slices again."""

PATIENCE = timedelta(seconds=10)
"""How long `close` waits for the thread: a server that hangs may hold it longer."""


class KubernetesSource:
    """See the module; one thread. `known` is what an earlier mirror has declared. It owns `api` and closes it.

    A namespace without any slice is not believed at the start when something is known: an empty one is sooner an
    accident, or a selector with a slip in it, than the truth. From then on the version tells whether the store was put
    back; if so, `waypost.mirror.memory` says what stays.
    """

    def __init__(
        self,
        api: SliceApi,
        tell: Tell,
        *,
        known: Mapping[str, Endpoints],
        selector: str = "",
        port: PortChoice = ANY_PORT,
        grace: timedelta = GRACE,
        backoff: Backoff | None = None,
    ) -> None:
        self._api = api
        self._selector = ",".join(part for part in (SERVICE_LABEL, selector) if part)
        self._choice = port
        self._backoff = backoff or Backoff()
        self._telling = Telling(tell, known, grace)
        self._slices: dict[str, Slice] = {}
        self._of_service: dict[str, dict[str, Slice]] = {}
        self._version = ""
        self._is_away = False
        self._stream: SliceStream | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirroring Kubernetes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Return when the thread has ended, or after `PATIENCE`."""
        self._closed.set()
        self._telling.close()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive():
            self._thread.join(PATIENCE.total_seconds())
        self._api.close()

    def look(self) -> None:
        """List everything once. Raises RegistryUnavailable."""
        listing = self._api.list(self._selector)
        slices = decode_slices(listing.found)
        with self._telling.lock:
            if is_older(listing.version, self._version) or (not self._version and not slices and self._telling.told):
                _log.warning("Kubernetes is emptied or put back to an older copy: those it lacks stay for a while")
                self._telling.doubt(has_looked=bool(self._version))
            self._slices, self._version = slices, listing.version
            self._of_service = {}
            for piece in slices.values():
                self._of_service.setdefault(piece.service, {})[piece.name] = piece
            for service in self._telling.memory.has.keys() | self._of_service.keys():
                self._remember(service)
            self._telling.say_all()

    def _run(self) -> None:
        has_listed = False
        while not self._closed.is_set():
            try:
                if not has_listed or is_older(self._api.version(), self._version):
                    self.look()
                    has_listed = True
                self._follow()
                continue
            except RegistryUnavailable as error:
                if self._closed.is_set():
                    return
                if not self._is_away:
                    _log.warning("%s: what was declared stays", error)
                self._is_away = True
                # Nobody needs what happened meanwhile one by one: another mirror may have told the end of it already.
                has_listed = False
            self._closed.wait(self._backoff.next().total_seconds())

    def _follow(self) -> None:
        """Follow until the server ends the watch in good order."""
        self._stream = self._api.open_watch(self._selector, self._version)
        if self._closed.is_set():
            return
        has_told = False
        for part in self._stream.parts():
            if isinstance(part, Opened):
                self._is_away = False
                continue
            has_told = True
            self._backoff.reset()
            with self._telling.lock:
                if isinstance(part, Change):
                    self._fold(part)
                self._version = part.version
        if not has_told and not self._closed.is_set():
            # Or a proxy that ends every watch at once would be asked without end.
            self._closed.wait(self._backoff.next().total_seconds())

    def _fold(self, change: Change) -> None:
        try:
            piece = decode_slice(change.doc)
        except DecodeError as error:
            _log.warning("an EndpointSlice cannot be read and is left as it was: %s", error)
            return
        services = {piece.service}
        before = self._slices.pop(piece.name, None)
        if before is not None:
            services.add(before.service)
            del self._of_service[before.service][before.name]
        if not change.is_deleted:
            self._slices[piece.name] = piece
            self._of_service.setdefault(piece.service, {})[piece.name] = piece
        for service in services:
            self._remember(service)
        self._telling.say(services)

    def _remember(self, service: str) -> None:
        """Take note of what a service is now, and of what was deleted in front of our eyes."""
        before = self._telling.memory.has.get(service, NONE)
        now = self._endpoints(service)
        self._telling.memory.change(service, now, before - now)

    def _endpoints(self, service: str) -> Endpoints:
        if not is_service(service):
            return NONE
        pieces = self._of_service.get(service, {})
        try:
            found = instances_of(service, pieces.values(), self._choice)
        except InvalidPort as error:
            _log.error("%s stays as it was declared before: %s", service, error)
            return self._telling.told.get(service, NONE)
        return frozenset((each.address, each.port) for each in found.values() if each.is_callable)
