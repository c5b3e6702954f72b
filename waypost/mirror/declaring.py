"""Declares sets on the log: the last one of each service, again and again until Kafka has it.

What is to be declared is a difference and not a queue, so an outage of Kafka costs one set per service at most.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta

from waypost.client.connection import Backoff
from waypost.client.event_sink import BatchSink, Record
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.mirror.sets import Endpoints, to_declare
from waypost.model.events import MAX_SET_ENDPOINTS, SetEvent
from waypost.model.names import ServiceKey
from waypost.model.stamp import ORIGIN, Stamp
from waypost.wire.registry import decode_registration, encode_registration, registry_key

_log = logging.getLogger(__name__)

AT_ONCE = 500
"""Sets in one batch; it is acknowledged or tried again whole."""


class Declaring:
    """See the module; one thread. `declared` is what the log has of this source already; `told` hears of each batch
    that Kafka took: its sets, and the endpoints of all sets by then."""

    def __init__(
        self,
        sink: BatchSink,
        *,
        namespace: str,
        source: str,
        declared: Mapping[str, Endpoints],
        topic: str = "service-registry",
        backoff: Backoff | None = None,
        told: Callable[[int, int], None] = lambda sets, endpoints: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._sink = sink
        self._namespace = namespace
        self._source = source
        self._topic = topic
        self._backoff = backoff or Backoff(first=timedelta(milliseconds=200))
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._wanted = dict(declared)
        self._declared = dict(declared)
        self._last_updated = 0
        self._closed = False
        self._told = told
        self._thread = threading.Thread(target=self._run, name="declaring sets", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def want(self, changed: Mapping[str, Endpoints]) -> None:
        """Take note of what some services are now; returns at once."""
        with self._changed:
            for service, endpoints in changed.items():
                if len(endpoints) > MAX_SET_ENDPOINTS:
                    _log.error(
                        "%s has %d endpoints, a set at most %d: it stays as it was declared before",
                        service, len(endpoints), MAX_SET_ENDPOINTS,
                    )  # fmt: skip
                else:
                    self._wanted[service] = endpoints
            self._changed.notify_all()

    def wait(self, timeout: timedelta) -> bool:
        """Return whether the log has all that is wanted, in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not to_declare(self._wanted, self._declared), timeout.total_seconds())

    def close(self) -> None:
        """Return when nothing more is written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (sets := self._next()) is not None:
            records = self._records(sets)
            try:
                self._sink.write_all(records)
            except RegistryUnavailable as error:
                if not self._backoff.failures:
                    _log.warning("%d sets are not declared, trying again: %s", len(sets), error)
                with self._changed:
                    pause = self._backoff.next().total_seconds()
                    self._changed.wait_for(lambda: self._closed, pause)
                continue
            self._backoff.reset()
            _log.info("declared %d services", len(sets))
            with self._changed:
                self._declared.update(sets)
                self._told(len(records), sum(map(len, self._declared.values())))
                self._changed.notify_all()

    def _next(self) -> dict[str, Endpoints] | None:
        with self._changed:
            while not self._closed:
                sets = to_declare(self._wanted, self._declared)
                if sets:
                    return dict(list(sets.items())[:AT_ONCE])
                self._changed.wait()
            return None

    def _records(self, sets: Mapping[str, Endpoints]) -> list[Record]:
        now_ms = self._now_ms()
        # Never lower than before: the job would take the set for an old one, should our clock be set back.
        self._last_updated = max(self._last_updated, now_ms // 1_000)
        records = []
        for service, endpoints in sets.items():
            key = ServiceKey(self._namespace, service)
            event = SetEvent(
                service=key,
                stamp=ORIGIN,
                endpoints=tuple(sorted(endpoints)),
                healthy=True,
                last_updated=self._last_updated,
                source=self._source,
                request_id=str(uuid.uuid4()),
            )
            value = encode_registration(event, ts=now_ms)
            try:
                decode_registration(value, Stamp(now_ms))
            except DecodeError as error:
                _log.error("%s cannot be declared: %s", key, error)
                continue
            records.append(Record(self._topic, registry_key(key), value))
        return records
