"""Looks at every instance of the roster, each by its own check and in its own time.

A new registration is looked at right away: until its first look has passed it is STARTING, and nobody calls it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from waypost.agent.checks import probe_of
from waypost.agent.member import Who
from waypost.agent.roster import Stage, Standing
from waypost.client.health_checks import AT_ONCE, Probe
from waypost.errors import SettingsError

_log = logging.getLogger(__name__)

Look = tuple[Who, int]
"""Whom, and which registration of it."""


class Prober:
    """See the module. One thread that decides, and up to `AT_ONCE` that look.

    `standings` is asked before each round; `note` is told of each look: (who, number of the registration, passed).
    """

    def __init__(
        self,
        standings: Callable[[], Iterable[Standing]],
        note: Callable[[Who, int, bool], None],
        *,
        chance: random.Random | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._standings = standings
        self._note = note
        self._chance = chance or random.Random()
        self._now = now
        self._changed = threading.Condition()
        self._due: dict[Look, float] = {}
        self._probes: dict[Look, Probe] = {}
        self._under_way: set[Look] = set()
        self._is_new = False
        self._closed = False
        self.passed = self.failed = 0
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """The roster has changed: look whom to look at."""
        with self._changed:
            self._is_new = True
            self._changed.notify_all()

    def close(self) -> None:
        """Return when the looks under way have ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while True:
            those = {(s.member.who, s.number): s for s in self._standings() if _is_looked_at(s)}
            with self._changed:
                if self._closed:
                    return
                for gone in self._due.keys() - those.keys():
                    del self._due[gone]
                    self._probes.pop(gone, None)
                now = self._now()
                for look, standing in those.items():
                    if look not in self._under_way and self._due.setdefault(look, now) <= now:
                        self._under_way.add(look)
                        self._pool.submit(self._look, look, standing)
                waiting = [at for look, at in self._due.items() if look not in self._under_way]
                if not self._is_new:
                    self._changed.wait(max(0.0, min(waiting) - now) if waiting else None)
                self._is_new = False

    def _look(self, look: Look, standing: Standing) -> None:
        passed = False
        try:
            passed = self._probe(look, standing)(standing.member.instance)
        except Exception:
            _log.exception("looking at %s failed in a way that says nothing of it", look[0])
        check = standing.member.check
        with self._changed:
            self.passed, self.failed = self.passed + passed, self.failed + (not passed)
            self._under_way.discard(look)
            if look in self._due:
                # Not all in step: instances that were registered together would be looked at together for ever.
                self._due[look] = self._now() + check.interval.total_seconds() * self._chance.uniform(0.9, 1.1)
            self._changed.notify_all()
        self._note(*look, passed)

    def _probe(self, look: Look, standing: Standing) -> Probe:
        if look not in self._probes:
            try:
                self._probes[look] = probe_of(standing.member.check)
            except SettingsError as error:
                _log.error("%s cannot be looked at: %s", look[0], error)
                self._probes[look] = lambda _: False
        return self._probes[look]


def _is_looked_at(standing: Standing) -> bool:
    return standing.member.check.looks and standing.stage is not Stage.LEAVING
