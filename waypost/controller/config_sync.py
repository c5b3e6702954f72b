"""The syncer: as long as ConfigMaps and topic differ, write the difference; one thread decides and writes.

    ConfigMaps change ──► plan against what the topic has ──► transactions ──► remember what the topic has now
    a write fails     ──► nobody knows what came of it    ──► take over, read the topic, plan anew
    a newer syncer    ──► FencedError: this process is over

Nothing is kept between two runs: the topic is the memory, so a restart goes on without a gap and repeats nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from waypost.client.connection import Backoff
from waypost.controller.config_log import ConfigLog, transactions
from waypost.controller.config_maps import ConfigMaps, Seen
from waypost.errors import RegistryUnavailable, TopicError
from waypost.model.change_sets import ChangeSet, Plan, Refusal, plan
from waypost.model.configs import Published, Scope

_log = logging.getLogger(__name__)


class Telling(Protocol):
    """Who hears what came of it: Events and metrics. No method may wait for anything or raise."""

    def planned(self, plan: Plan) -> None:
        """What is to be written and what not."""
        ...

    def written(self, change_sets: list[ChangeSet], configs: int) -> None:
        """A transaction was committed; so many configurations of this source there are now."""
        ...

    def failed(self) -> None:
        """A transaction or a reading failed; it is tried again."""
        ...


@dataclass(slots=True)
class _Topic:
    """What the topic has, as long as nobody else writes our records."""

    published: dict[str, Published]
    floor: int

    def after(self, change_sets: list[ChangeSet], source: str) -> None:
        for one in change_sets:
            for change in one.changes:
                self.floor = max(self.floor, change.revision, int(one.id.rpartition("@")[2]))
                if change.content is None:
                    self.published.pop(change.name, None)
                else:
                    self.published[change.name] = Published(
                        revision=change.revision,
                        checksum=change.content.checksum,
                        binary=change.content.binary,
                        change_set=one.id,
                        source=source,
                    )


class ConfigSync:
    """See the module. `run` belongs to one thread; close the ConfigMaps to end it."""

    def __init__(
        self,
        found: ConfigMaps,
        log: ConfigLog,
        scope: Scope,
        telling: Telling,
        *,
        may_remove_many: bool = False,
        backoff: Backoff | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._found = found
        self._log = log
        self._scope = scope
        self._telling = telling
        self._may_remove_many = may_remove_many
        self._backoff = backoff or Backoff(first=timedelta(milliseconds=200))
        self._now_ms = now_ms
        self._topic: _Topic | None = None

    def run(self) -> None:
        """Keep the topic equal until the ConfigMaps are closed. Raises FencedError."""
        while not self._found.is_closed():
            seen = self._found.wait()
            if seen is None:
                continue
            try:
                self.sync(seen)
                self._backoff.reset()
            except (RegistryUnavailable, TopicError) as error:
                self._topic = None
                self._telling.failed()
                if not self._backoff.failures:
                    _log.warning("configurations are not published, trying again: %s", error)
                self._found.pause(self._backoff.next().total_seconds())
                self._found.again()

    def sync(self, seen: Seen) -> None:
        """Write what makes the topic equal to `seen`. Raises FencedError, RegistryUnavailable and TopicError; the
        first transactions may be committed then."""
        if self._topic is None:
            observed = self._log.take_over()
            self._topic = _Topic(dict(observed.published), observed.floor)
        decided = plan(
            seen.objects,
            self._topic.published,
            self._scope,
            now_ms=self._now_ms(),
            floor=self._topic.floor,
            deleted=seen.deleted,
            may_remove_many=self._may_remove_many,
        )
        self._telling.planned(decided)
        for batch in transactions(decided.change_sets):
            self._log.write(batch)
            self._topic.after(batch, self._scope.source)
            self._telling.written(batch, self._count())
        self._found.forget(seen.deleted)

    def _count(self) -> int:
        assert self._topic is not None
        return sum(one.source == self._scope.source for one in self._topic.published.values())


@dataclass(slots=True)
class RefusalsTold:
    """Which refusals are new, so that each is told once per state of its ConfigMap."""

    _told: dict[str, tuple[str, str]]

    def __init__(self) -> None:
        self._told = {}

    def new(self, refusals: tuple[Refusal, ...]) -> list[Refusal]:
        """Return those that were not there before, for that version of the ConfigMap and that text."""
        now = {str(one.object.key): (one.object.version, f"{one.reason}: {one.detail}") for one in refusals}
        fresh = [one for one in refusals if self._told.get(str(one.object.key)) != now[str(one.object.key)]]
        self._told = now
        return fresh
