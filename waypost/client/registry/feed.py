"""What a watch reads: the instances of one service, and every change to them, in order.

A back end writes to a `Feed`, any number of watches read from it, each at its own pace. A watch that falls further
behind than the feed remembers is brought up to date by the difference, so memory is bounded and the last state of each
instance is never missed; what came and went in between is.

Only instances that may be called are in a feed: one that drains is deleted, and added when it comes back.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType

from waypost.client.copies import EventKind
from waypost.client.registry.instance import Instance
from waypost.errors import WatchPositionLost, WaypostError

KEPT = 10_000
"""Changes a feed remembers: 100 s at 100 changes/s of one service, some MB at most."""

POLL = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEvent:
    """One instance came, changed or went; for DELETE, `instance` is what it was. `position` is the back end's."""

    kind: EventKind
    instance: Instance
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot:
    """What was known of a service at `position`: where a watch can go on.

    `stale_since` (epoch ms) is set while the registry cannot be reached: it may be out of date since then.
    """

    service: str
    instances: Mapping[str, Instance]
    position: str
    stale_since: int | None = field(default=None, compare=False)

    @property
    def callable(self) -> dict[str, Instance]:
        """The instances that want requests, by id."""
        return {id: instance for id, instance in self.instances.items() if instance.is_callable}


class Feed:
    """See the module. Safe to share between threads."""

    def __init__(self, service: str, *, kept: int = KEPT, seed: ServiceSnapshot | None = None) -> None:
        self.service = service
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Condition()
        self._journal: deque[InstanceEvent] = deque(maxlen=kept)
        self._end = 0
        self._instances: dict[str, Instance] = seed.callable if seed is not None else {}
        self._position = seed.position if seed is not None else f"{self._run}.0"
        self.is_loaded = seed is not None
        self._stale_since: int | None = None
        self._failure: WaypostError | None = None

    # -- the back end's side ---------------------------------------------------------------------------

    def load(
        self, instances: Mapping[str, Instance], position: str | None = None, *, stale_at: int | None = None
    ) -> ServiceSnapshot:
        """Replace all and return it; the difference becomes events. Nothing is stale afterwards, unless the registry
        does not confirm all of it now: then it is stale since `stale_at`, or since it was noted before."""
        with self._lock:
            gone: dict[str, Instance | None] = dict.fromkeys(self._instances.keys() - instances.keys())
            self._fold({**gone, **instances}, position)
            self.is_loaded = True
            if stale_at is None or self._stale_since is None:
                self._stale_since = stale_at
            self._lock.notify_all()
            return self._now()

    def apply(self, *changes: Mapping[str, Instance | None], position: str | None = None) -> None:
        """Fold changes of single instances, in order and at once; None: it is gone."""
        with self._lock:
            for some in changes:
                self._fold(some, position)
            self._lock.notify_all()

    def confirm(self, position: str) -> None:
        """Note that the registry confirms what is here, as of a later position."""
        with self._lock:
            self._position, self._stale_since = position, None

    def mark_stale(self, now_ms: int) -> None:
        """Note that nothing confirms this any more, since now unless it was noted before."""
        with self._lock:
            if self._stale_since is None:
                self._stale_since = now_ms
            self._lock.notify_all()

    def mark_fresh(self) -> None:
        """Note that the registry confirms what is here."""
        with self._lock:
            self._stale_since = None

    def fail(self, error: WaypostError) -> None:
        """End all watches with this error."""
        with self._lock:
            self._failure = error
            self._lock.notify_all()

    def _fold(self, changes: Mapping[str, Instance | None], position: str | None) -> None:
        for id, new in sorted(changes.items()):
            wanted = new if new is not None and new.is_callable else None
            event = _event(self._instances.get(id), wanted, position or f"{self._run}.{self._end + 1}")
            if wanted is None:
                self._instances.pop(id, None)
            else:
                self._instances[id] = wanted
            if event is not None:
                self._journal.append(event)
                self._end += 1
        self._position = position or f"{self._run}.{self._end}"

    # -- the watches' side -----------------------------------------------------------------------------

    def snapshot(self) -> ServiceSnapshot:
        """Return what is known now; never waits."""
        with self._lock:
            return self._now()

    def place(self, position: str) -> int:
        """Return where in the journal a position of this very feed is. Raises WatchPositionLost."""
        run, _, number = position.partition(".")
        with self._lock:
            if run != self._run or not number.isdecimal() or int(number) > self._end:
                raise WatchPositionLost(self.service, position, "it is of another run of this registry")
            if int(number) < self._end - len(self._journal):
                raise WatchPositionLost(self.service, position, "what came next is trimmed")
        return int(number)

    def read(
        self, seen: int | None, known: Mapping[str, Instance], wait_s: float, gives_up: Callable[[], bool]
    ) -> tuple[list[InstanceEvent], int | None, ServiceSnapshot]:
        """Wait for something behind `seen` and return it, the new place, and what it led to.

        `seen` None: return the difference to `known`, as soon as the feed is loaded. Raises what `fail` was told.
        """
        deadline = time.monotonic() + wait_s
        with self._lock:
            while not gives_up():
                if self._failure is not None:
                    raise self._failure
                if self.is_loaded and seen != self._end:
                    events, seen = self._since(seen, known), self._end
                    if events:
                        return events, seen, self._now()
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._lock.wait(remaining)
            return [], seen, self._now()

    def wake(self) -> None:
        """Let waiting readers look whether they want to give up."""
        with self._lock:
            self._lock.notify_all()

    def _since(self, seen: int | None, known: Mapping[str, Instance]) -> list[InstanceEvent]:
        begin = self._end - len(self._journal)
        if seen is not None and seen >= begin:
            return [self._journal[n] for n in range(seen - begin, len(self._journal))]
        touched = sorted(known.keys() | self._instances.keys())
        events = (_event(known.get(id), self._instances.get(id), self._position) for id in touched)
        return [event for event in events if event is not None]

    def _now(self) -> ServiceSnapshot:
        return ServiceSnapshot(
            service=self.service,
            instances=dict(self._instances),
            position=self._position,
            stale_since=self._stale_since,
        )


class Watch:
    """Reads one feed. `poll` and iteration belong to one thread; `close` may be called from any."""

    def __init__(
        self,
        feed: Feed,
        *,
        after: ServiceSnapshot | None = None,
        seen: int | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._feed = feed
        self._seen = seen
        self._snapshot = after or ServiceSnapshot(service=feed.service, instances={}, position="")
        self._on_close = on_close
        self._closed = False

    def poll(self, timeout: timedelta = POLL) -> list[InstanceEvent]:
        """Return what changed, oldest first; wait up to `timeout` for it. Raises WatchPositionLost, nothing else:
        while the registry is away nothing changes, and `stale_since` says so."""
        events, self._seen, self._snapshot = self._feed.read(
            self._seen, self._snapshot.callable, timeout.total_seconds(), lambda: self._closed
        )
        return events

    @property
    def snapshot(self) -> ServiceSnapshot:
        """What all events so far have led to; hand it to a later `watch` to go on from here."""
        return self._snapshot

    @property
    def stale_since(self) -> int | None:
        """Since when the registry does not confirm the snapshot (epoch ms); None: it does. Never waits."""
        return self._feed.snapshot().stale_since

    @property
    def is_loaded(self) -> bool:
        """Whether the registry has been heard of at all: before that, an empty snapshot means nothing."""
        return self._feed.is_loaded

    def __iter__(self) -> Iterator[InstanceEvent]:
        """Yield events until `close`."""
        while not self._closed:
            yield from self.poll()

    def close(self) -> None:
        """End `poll` and iteration. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._feed.wake()
            self._on_close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _event(was: Instance | None, now: Instance | None, position: str) -> InstanceEvent | None:
    if was == now:
        return None
    if now is None:
        assert was is not None
        return InstanceEvent(kind=EventKind.DELETE, instance=was, position=position)
    kind = EventKind.ADD if was is None else EventKind.UPDATE
    return InstanceEvent(kind=kind, instance=now, position=position)
