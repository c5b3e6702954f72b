"""Tells the log what is so, and beats for who lives: one thread over one roster.

All writing is done here, one batch after the other, so words about one instance are on the log in their order. A batch
is written and acknowledged whole, or tried again whole after a random while; until then nothing of it counts as told.

What an agent may have told is saved before it is told, and what was acknowledged right after: whoever starts after a
crash knows at least what the log may have heard.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from waypost.agent.roster import Due, Roster
from waypost.agent.state_file import write_state
from waypost.client.connection import Backoff
from waypost.client.event_sink import BatchSink, Record
from waypost.client.registrar import Topics, encode_checked
from waypost.errors import RegistryUnavailable
from waypost.model.beats import Beat
from waypost.wire.beats import encode_batches, encode_beat
from waypost.wire.registry import registry_key

_log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_FROM = 16
"""Beats from which on they share a record. It saves Kafka records, and costs the job: SQL takes records of one beat as
they are, a batch is taken apart in Python at some 10 µs per beat (docs/agent.md has figures)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What has been written so far, for metrics. `last` is None before the first batch; else in epoch seconds."""

    words: int = 0
    beats: int = 0
    records: int = 0
    failures: int = 0
    last: float | None = None
    is_failing: bool = False


class Teller:
    """See the module. Safe to share between threads. Does not own the sink."""

    def __init__(
        self,
        roster: Roster,
        sink: BatchSink,
        *,
        namespace: str,
        node: str,
        topics: Topics | None = None,
        file: Path | None = None,
        batch_from: int = BATCH_FROM,
        backoff: Backoff | None = None,
        now: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._roster = roster
        self._sink = sink
        self._namespace = namespace
        self._node = node
        self._topics = topics or Topics()
        self._file = file
        self._batch_from = batch_from
        self._backoff = backoff or Backoff(first=timedelta(milliseconds=200), ceiling=timedelta(seconds=2))
        self._now = now
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._retry_at = 0.0
        self._closed = False
        self.written = Written()
        self.on_change: Callable[[], None] = lambda: None
        """Called after an owner has changed something; set it before `start`."""
        self._thread = threading.Thread(target=self._run, name="telling the log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def change(self, function: Callable[[Roster], T]) -> T:
        """Let a function change the roster, save it, and tell the log about it soon. Raises what the function does."""
        with self._changed:
            result = function(self._roster)
            self._save()
            self._changed.notify_all()
        self.on_change()
        return result

    def note(self, function: Callable[[Roster, float], bool]) -> None:
        """As `change`, for looks: nothing is saved or told unless the function says that it matters."""
        with self._changed:
            if function(self._roster, self._now()):
                self._save()
                self._changed.notify_all()

    def read(self, function: Callable[[Roster], T]) -> T:
        """Return what a function finds in the roster, which it must not change."""
        with self._changed:
            return function(self._roster)

    def wait(self, condition: Callable[[Roster], bool], timeout: timedelta) -> bool:
        """Return whether the condition came to hold in time. Raises what it does."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._roster), timeout.total_seconds())

    def close(self) -> None:
        """Return when nothing more is written; what was not told by then is not."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            records = self._records(due)
            try:
                self._sink.write_all(records)
            except RegistryUnavailable as error:
                self._failed(error)
            else:
                self._told(due, len(records))

    def _next(self) -> Due | None:
        """Wait for something to write; None: it is over."""
        with self._changed:
            while not self._closed:
                now = self._now()
                due = self._roster.due(now)
                if due and now >= self._retry_at:
                    if due.words:
                        self._roster.trying(due)
                        self._save()
                    return due
                next_beat = self._roster.next_beat()
                wake = self._retry_at if due else next_beat
                self._changed.wait(None if wake is None else max(0.0, wake - now))
            return None

    def _records(self, due: Due) -> list[Record]:
        with self._changed:
            events = [self._roster.event(who, said) for who, (_, said) in due.words.items()]
        now_ms = self._now_ms()
        records = [
            Record(
                self._topics.registry,
                registry_key(event.service),
                encode_checked(replace(event, request_id=str(uuid.uuid4())), now_ms),
            )
            for event in events
        ]
        beats = [(who.instance, Beat(service=who.service, namespace=self._namespace)) for who in due.beats]
        if len(beats) >= self._batch_from:
            key = self._node.encode()
            records += [Record(self._topics.heartbeat, key, value) for value in encode_batches(self._node, beats)]
        else:
            records += [Record(self._topics.heartbeat, id.encode(), encode_beat(beat)) for id, beat in beats]
        return records

    def _told(self, due: Due, records: int) -> None:
        with self._changed:
            now = self._now()
            self._roster.told(due, now)
            if due.words:
                self._save()
            before = self.written
            if before.is_failing:
                _log.info("Kafka takes records again")
            self.written = replace(
                before,
                words=before.words + len(due.words),
                beats=before.beats + len(due.beats),
                records=before.records + records,
                last=self._now_ms() / 1_000,
                is_failing=False,
            )
            self._retry_at = 0.0
            self._backoff.reset()
            self._changed.notify_all()

    def _failed(self, error: RegistryUnavailable) -> None:
        with self._changed:
            if not self.written.is_failing:
                _log.warning("the log is not told, trying again: %s", error)
            self.written = replace(self.written, failures=self.written.failures + 1, is_failing=True)
            self._retry_at = self._now() + self._backoff.next().total_seconds()
            self._changed.notify_all()

    def _save(self) -> None:
        if self._file is None:
            return
        try:
            write_state(self._file, self._namespace, self._roster)
        except OSError as error:
            _log.warning("%s is not written: whoever starts after this agent would take nothing over: %s",
                         self._file, error)  # fmt: skip
