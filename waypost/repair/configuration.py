"""What the repair job is told while it runs: the switch and the policies, as they stand on `service-config`.

Whoever is about to decide or to act asks `current`; it reads what is new when the last reading is older than a second.
There is no thread: nothing is read that nobody needs, and nothing is decided on what another thread is replacing.

    reading fails, or the switch cannot be understood ──► the last reading ages ──► after 10 s nothing is done
    the topic has no switch                           ──► repairs are on, as far as policies act
    a policy document is refused                      ──► the one in force stays, and the problem is told
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from waypost.errors import DecodeError, WaypostError
from waypost.model.kill_switch import UNREAD, Control
from waypost.model.repair_policy import DEFAULT_POLICIES, PolicySet
from waypost.wire.config import decode_config, read_name
from waypost.wire.policies import decode_policies
from waypost.wire.repair_config import CONTROL, POLICIES, decode_switch

log = logging.getLogger(__name__)

EVERY_MS = 1_000
"""Between two readings. The switch promises 10 s."""


class ConfigUnreadable(WaypostError):
    """The topic could not be read to its end just now; nobody knows whether repairs are on."""


class Reading(NamedTuple):
    """Records in the order of the log. `whole`: from its beginning; what was said before does not count, it may have
    been in a log that is not there any more."""

    whole: bool
    records: Iterable[tuple[bytes | None, bytes | None]]


class ConfigFeed(Protocol):
    """The records of `service-config` in the order of the log."""

    def read(self) -> Reading:
        """Return what is new since the last call that returned, at least up to what was the end when this one began.
        Raises ConfigUnreadable; what was received before that is returned by a later call."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What holds now. `problem`: why the newest policies or the switch are not what was written last, "" if they
    are. `revisions` by name: whoever writes has to write a higher one."""

    control: Control = UNREAD
    policies: PolicySet = DEFAULT_POLICIES
    problem: str = ""
    revisions: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Said:
    """What the records say, one after the other. Of a name the highest revision counts, in whatever partition it is;
    of equal ones the later."""

    default: PolicySet
    policies: PolicySet
    enabled: bool | None = True
    revisions: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def take(self, key: bytes | None, value: bytes | None) -> None:
        try:
            name = read_name(key)
        except DecodeError:
            return
        if name not in (CONTROL, POLICIES):
            return
        try:
            record = decode_config(key, value)
            if record is None:
                self.revisions.pop(name, None)
            elif record.revision < self.revisions.get(name, 0):
                return
            else:
                self.revisions[name] = record.revision
            if name == CONTROL:
                self.enabled = True if record is None else decode_switch(record.value).enabled
            else:
                self.policies = self.default if record is None else decode_policies(record.value)
        except DecodeError as error:
            self.problems[name] = str(error)
            log.error("%s is refused: %s", name, error)
            if name == CONTROL:
                self.enabled = None  # somebody said something about the switch, and nobody knows what
            return
        self.problems.pop(name, None)


class Configured:
    """See the module. `clock` is epoch ms; `default` are the policies until there are some."""

    def __init__(
        self, feed: Callable[[], ConfigFeed], clock: Callable[[], int], default: PolicySet = DEFAULT_POLICIES
    ) -> None:
        self._connect, self._clock, self._default = feed, clock, default
        self._feed: ConfigFeed | None = None
        self._tried_at: int | None = None
        self._read_at = 0
        self._said = _Said(default, default)

    def current(self) -> Configuration:
        """Return what holds, read anew when it is time. Raises nothing."""
        now = self._clock()
        if self._tried_at is None or not 0 <= now - self._tried_at < EVERY_MS:
            self._tried_at = now
            self._read(now)
            self._tried_at = self._clock()
        said = self._said
        control = UNREAD if said.enabled is None else Control(said.enabled, self._read_at)
        problem = "; ".join(f"{name}: {what}" for name, what in sorted(said.problems.items()))
        return Configuration(
            control=control, policies=said.policies, problem=problem, revisions=dict(said.revisions)
        )  # fmt: skip

    def control(self) -> Control:
        return self.current().control

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _read(self, now: int) -> None:
        try:
            if self._feed is None:
                self._feed = self._connect()
            reading = self._feed.read()
        except ConfigUnreadable as error:
            log.warning("the configuration cannot be read: %s", error)
            return
        if reading.whole:
            self._said = _Said(self._default, self._default)
        for key, value in reading.records:
            self._said.take(key, value)
        self._read_at = now
