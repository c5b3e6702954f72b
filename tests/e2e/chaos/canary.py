"""A service that lives, dies and comes back for ever, and everything that its readers see of it.

    steady-<n>           beat all the time             they are in the table, whatever fails
    mortal-<n>           killed, server and beats      leaves when its lease has ended, not before
    leaver-<n>           deregistered, beats on        leaves, and no beat brings it back

    watcher   a `RouteReader` on Redis                 revisions and epochs never go back, no table is ever empty
    caller    requests through the gateway             fail only while a dead instance may still be listed
    pulse     a new weight of steady-0, five a second  how late readers see it

What a fault cannot excuse is noted in `wrongs`, in words. That something is late is no wrong: how late is measured.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import redis

from tests.e2e.chaos.posting import Posting
from tests.gateway.backends import Backend, get
from waypost.client.copies import EndpointEvent, EventKind
from waypost.client.keys import Keys
from waypost.client.routes import RouteReader
from waypost.local.state import Stack
from waypost.model.names import ServiceKey

SERVICE = ServiceKey("default", "canary")
STEADY = 8
"""So many that the brake does not hold the mortals, of which one may die every 7 s: 5 in 30 s of 13 are below half."""
LEASE_S = 4
STEADY_LEASE_S = 30
"""Of those that beat all the time: longer than a loaded machine may keep their thread from it."""
BEAT_S = 0.5
PULSE_S = 0.2
CALL_S = 0.1
GATEWAY_LAG_S = 30.0
"""After the table has changed, a gateway may take many times what it takes on a quiet machine."""
QUICK_S = 0.5
"""A reader that sees a change within this sees it as promised."""
AGAIN_S = 10 * QUICK_S
"""A reader that sees changes within this sees that the fault is over, on the slowest of machines too."""
IN_A_ROW = 10
ASKED_EACH_S = 0.05
WEIGHTS = 1_000


@dataclass
class Life:
    """What is known of one instance. Times are of the monotonic clock, `logged_ms` is the log's: epoch ms."""

    name: str
    server: Backend
    beats: bool = True
    died: float | None = None
    logged_ms: int = 0
    """When the log took its newest record: registration or beat."""
    joined: float | None = None
    left: float | None = None
    deregistered: bool = False


@dataclass
class Pulse:
    """One weight that was sent, and when a reader saw it or a later one."""

    weight: int
    sent: float
    seen: float | None = None

    @property
    def took(self) -> float:
        """How long a reader waited for it, s; infinite while none has seen it."""
        return float("inf") if self.seen is None else self.seen - self.sent

    @property
    def is_late(self) -> bool:
        return QUICK_S < self.took < float("inf")


@dataclass
class Canary:
    """See the module. Use as a context manager; `begin` and `until_…` are for the thread of the test."""

    stack: Stack
    wrongs: list[str] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)
    pulses: list[Pulse] = field(default_factory=list)
    calls: int = 0
    failed_calls: int = 0
    deaths: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _silent: bool = False
    _older_copy: bool = False
    _redis_is_newest: bool = True
    _born: int = 0
    _tag: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    """Part of every name: what a canary before this one left is none of its business."""

    def __enter__(self) -> Canary:
        self._posting = Posting(self.stack.kafka_bootstrap)
        self._reader = RouteReader(self.stack.redis_url, reader_id="canary")
        self._reader.watch(SERVICE)
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=work.__name__, daemon=True)
            for work in (self._watch, self._ask, self._beat, self._call, self._pulse, self._live)
        ]
        self._steady = [self._bear("steady", number, STEADY_LEASE_S).name for number in range(STEADY)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
        for life in self.lives.values():
            self._posting.event(SERVICE.service, op="deregister", instance=life.name)
            life.server.stop()
        self._posting.close()
        self._reader.close()

    # --- for the test -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Nobody of the canary beats inside the block, and nobody dies."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    @contextlib.contextmanager
    def older_copy(self) -> Iterator[None]:
        """Inside the block Redis itself may go back in time: a reader that remembers its revision keeps its table.

        The block ends when Redis is beyond everything that anybody has read.
        """
        self._older_copy = True
        yield
        self._until(lambda: self._redis_is_newest)
        self._older_copy = False

    def until_seen_again(self, within_s: float) -> None:
        """Return when readers saw ten changes in a row within `AGAIN_S`."""
        begin, deadline = len(self.pulses), time.monotonic() + within_s
        while time.monotonic() < deadline:
            seen = [pulse for pulse in self.pulses[begin:] if pulse.seen is not None]
            if len(seen) >= IN_A_ROW and all(pulse.took <= AGAIN_S for pulse in seen[-IN_A_ROW:]):
                return
            self._stopped.wait(0.1)
        newest = [round(pulse.took, 2) for pulse in self.pulses[-10:]]
        raise AssertionError(f"after {within_s:.0f} s readers still see changes late: {newest}")

    def late(self, since: float) -> list[Pulse]:
        """Return the changes sent since then that readers saw late."""
        return [pulse for pulse in self.pulses if pulse.sent >= since and pulse.is_late]

    def until_well(self, within_s: float) -> None:
        """Return when the steady ones and a mortal are in the table and the dead are out of it."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with self._lock:
                living = [life for life in self.lives.values() if life.died is None and not life.deregistered]
                gone = [life for life in self.lives.values() if life.died is not None or life.deregistered]
                if all(life.joined for life in living) and not any(life.joined and not life.left for life in gone):
                    return
            self._stopped.wait(0.1)
        raise AssertionError(f"after {within_s:.0f} s the canary's table is not as its instances: {self._story()}")

    def until_deaths(self, more: int, within_s: float) -> None:
        """Return when so many more instances have died and left."""
        goal, deadline = self.deaths + more, time.monotonic() + within_s
        while self.deaths < goal:
            assert time.monotonic() < deadline, f"nobody leaves: {self._story()}"
            self._stopped.wait(0.1)

    def _story(self) -> str:
        return ", ".join(
            f"{life.name} joined={life.joined} died={life.died} left={life.left}" for life in self.lives.values()
        )

    # --- its life ---------------------------------------------------------------------------------

    def _bear(self, kind: str, number: int, lease_s: int = LEASE_S) -> Life:
        name = f"{kind}-{self._tag}-{number}"
        life = Life(name, Backend(name))
        with self._lock:
            self.lives[name] = life
        self._posting.event(
            SERVICE.service,
            op="register",
            instance=name,
            address="127.0.0.1",
            port=life.server.port,
            lease_seconds=lease_s,
            logged=lambda at: self._logged(life, at),
        )
        return life

    def _logged(self, life: Life, at_ms: int) -> None:
        life.logged_ms = max(life.logged_ms, at_ms)

    def _live(self) -> None:
        """Kill one, bear the next, deregister one, for ever; each step when readers have seen the one before."""
        while not self._stopped.is_set():
            self._born += 1
            mortal, leaver = self._bear("mortal", self._born), self._bear("leaver", self._born)
            self._until(lambda m=mortal, o=leaver: m.joined and o.joined)  # type: ignore[misc]
            self._stopped.wait(2 * BEAT_S)

            leaver.deregistered = True
            self._posting.event(SERVICE.service, op="deregister", instance=leaver.name)
            self._until(lambda: not self._silent)
            with self._lock:
                mortal.died, mortal.beats = time.monotonic(), False
            mortal.server.stop()
            self._until(lambda m=mortal, o=leaver: m.left and o.left)  # type: ignore[misc]
            self._stopped.wait(2 * BEAT_S)  # the leaver's late beats
            leaver.beats = False
            leaver.server.stop()
            self.deaths += 1
            self._forget()

    def _forget(self) -> None:
        """Let go of those that left long ago."""
        with self._lock:
            for life in list(self.lives.values()):
                if life.left is not None and time.monotonic() - life.left > 2 * GATEWAY_LAG_S:
                    self._posting.event(SERVICE.service, op="deregister", instance=life.name)
                    del self.lives[life.name]

    def _until(self, holds: Callable[[], Any]) -> None:
        while not holds() and not self._stopped.wait(0.05):
            pass

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_S):
            if self._silent:
                continue
            for life in list(self.lives.values()):
                if life.beats:
                    self._posting.beat(life.name, logged=lambda at, of=life: self._logged(of, at))

    def _pulse(self) -> None:
        number = 0
        while not self._stopped.wait(PULSE_S):
            number += 1
            weight = 1 + number % WEIGHTS
            self.pulses.append(Pulse(weight, time.monotonic()))
            self._posting.event(SERVICE.service, op="update", instance=self._steady[0], weight=weight)

    # --- what readers see -------------------------------------------------------------------------

    def _watch(self) -> None:
        revision = 0
        while not self._stopped.is_set():
            for event in self._reader.poll(timedelta(milliseconds=50)):
                self._note(event)
            table = self._reader.table(SERVICE)
            if table.revision < revision:
                self.wrongs.append(f"a reader's copy went from revision {revision} to {table.revision}")
            revision = max(revision, table.revision)

    def _note(self, event: EndpointEvent) -> None:
        now = time.monotonic()
        life = self.lives.get(event.instance)
        if event.instance == self._steady[0] and event.kind is not EventKind.DELETE:
            self._saw_weight(event.endpoint.weight, now)
        if life is None:
            if event.kind is not EventKind.DELETE and self._tag in event.instance:
                self.wrongs.append(f"{event.instance} came back long after it was gone")
        elif event.kind is EventKind.DELETE:
            self._saw_leave(life, now)
        elif event.kind is EventKind.ADD:
            if life.left is not None:
                self.wrongs.append(f"{life.name} left and came back")
            life.joined = life.joined or now

    def _saw_leave(self, life: Life, now: float) -> None:
        if life.name in self._steady:
            self.wrongs.append(f"{life.name} left the table though it beat all the time")
        elif not life.deregistered and time.time() * 1000 < life.logged_ms + LEASE_S * 1000:
            self.wrongs.append(f"{life.name} left before its lease had ended")
        life.left = now

    def _saw_weight(self, weight: int, now: float) -> None:
        for number in range(len(self.pulses) - 1, max(-1, len(self.pulses) - WEIGHTS), -1):
            if self.pulses[number].weight == weight:
                for pulse in reversed(self.pulses[: number + 1]):
                    if pulse.seen is not None:
                        return
                    pulse.seen = now
                return

    def _ask(self) -> None:
        """Read `meta` and `route` as the simplest gateway does, on a connection without retries."""
        client = redis.Redis.from_url(
            self.stack.redis_url, decode_responses=True, socket_timeout=2, socket_connect_timeout=2
        )
        keys, newest, complete = Keys(), (0, 0), False
        while not self._stopped.wait(ASKED_EACH_S):
            complete = complete or all(self.lives[name].joined for name in self._steady)
            try:
                pipeline = client.pipeline(transaction=True)
                pipeline.hmget(keys.meta(SERVICE), "epoch", "revision")
                pipeline.hlen(keys.route(SERVICE))
                (epoch, revision), endpoints = pipeline.execute()
            except (redis.RedisError, OSError):
                continue
            if epoch is None or revision is None:
                continue  # the store was wiped: for a reader there is no table, and it keeps its own
            found = int(epoch), int(revision)
            self._redis_is_newest = found[0] >= newest[0] and found[1] >= newest[1]
            if not self._redis_is_newest and not self._older_copy:
                self.wrongs.append(f"Redis went from epoch, revision {newest} to {found}")
            if endpoints < STEADY and complete:
                self.wrongs.append(f"Redis has {endpoints} endpoints at revision {revision}")
            newest = max(newest[0], found[0]), max(newest[1], found[1])
        client.close()

    def _call(self) -> None:
        path, served = f"/{SERVICE}/", False
        while not self._stopped.wait(CALL_S):
            began, why = time.monotonic(), ""
            try:
                status, body = get(self.stack.gateway_url, path)
                why = "" if status == 200 else f"status {status}"
            except OSError as error:
                why = repr(error)
            served = served or not why
            if not served:
                continue  # the gateway has not heard of the canary yet
            self.calls += 1
            if not why:
                self._answered(body.split(" ")[0], began)
            elif not self._is_excused(began):
                self.wrongs.append(f"a request failed with {why} though nobody listed was dead")
            else:
                self.failed_calls += 1

    def _is_excused(self, began: float) -> bool:
        """Tell whether somebody dead may have been listed at the gateway when a request began."""
        with self._lock:
            return any(
                life.died is not None or life.deregistered
                for life in self.lives.values()
                if life.left is None or began < life.left + GATEWAY_LAG_S
            )

    def _answered(self, name: str, began: float) -> None:
        life = self.lives.get(name)
        if life is not None and life.left is not None and began > life.left + GATEWAY_LAG_S:
            self.wrongs.append(f"the gateway still calls {name}, which left {began - life.left:.1f} s before")

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.wrongs.append(f"the canary's {work.__name__} ended: {error!r}")
            raise
