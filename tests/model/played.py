"""A fleet that beats and falls silent by plan, played through the folds and published after every tick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from tests.model import oracle
from tests.model.events import T0, an_event, deregistered, registered
from tests.model.job import SHARDS, TICK, Job, raw
from waypost.model.beats import Beat
from waypost.model.brake import BrakeRules
from waypost.model.damping import DampingRules
from waypost.model.events import InstanceEvent, Op
from waypost.model.gate import Gate, Phase
from waypost.model.leases import TimedBeat
from waypost.model.lifecycle import Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp

LEASE_S, HOLD_S = 6, 120
QUICK_S = 2
RULES = BrakeRules(hold_ms=HOLD_S * 1000)
WATCHER = ServiceKey("default", "watcher")
"""Beats all the time, so that every lapse has its evidence and only the brake decides."""
Who = tuple[ServiceKey, str]


def service(n: int) -> ServiceKey:
    return ServiceKey("default", f"s-{n}")


@dataclass
class Fleet:
    """Services whose instances beat every other second except while they are silent."""

    sizes: list[int]
    rules: BrakeRules = RULES
    silent: dict[Who, list[tuple[int, int]]] = field(default_factory=dict)
    """Seconds from, to."""
    gone: dict[Who, int] = field(default_factory=dict)
    """When it is deregistered."""
    damping: DampingRules = DampingRules(enabled=False)  # noqa: RUF009 (frozen)
    quick: set[Who] = field(default_factory=set)
    """Who beats every second, on a lease of `QUICK_S`."""
    ill: dict[Who, list[tuple[int, int]]] = field(default_factory=dict)
    """Seconds from, to: its beats say fail in between, and pass otherwise."""
    checks: dict[Who, list[tuple[int, Health]]] = field(default_factory=dict)
    """What a checker says of it, and in which second."""

    @property
    def instances(self) -> list[Who]:
        named = [(service(n), f"s{n}-{i}") for n, size in enumerate(self.sizes) for i in range(size)]
        return [(WATCHER, "watcher-0"), *named]

    def silence(self, who: Iterable[Who], start: int, stop: int = 10_000) -> None:
        for one in who:
            self.silent.setdefault(one, []).append((start, stop))

    def log(self, seconds: int) -> oracle.Log:
        log = oracle.Log(shards=SHARDS)
        offset = 0
        for n, (of, instance) in enumerate(self.instances):
            who, lease_s = (of, instance), QUICK_S if (of, instance) in self.quick else LEASE_S
            log.events.append(registered(Stamp(T0 + n % 900, 0, n), instance, service=of, lease_seconds=lease_s))
            for second, health in self.checks.get(who, ()):
                stamp = Stamp(T0 + second * 1000 + 300, 0, 20_000 + second)
                log.events.append(an_event(Op.STATUS, stamp, instance, service=of, health=health))
            if (of, instance) in self.gone:
                at = T0 + self.gone[of, instance] * 1000 + 300
                log.events.append(deregistered(Stamp(at, 0, 10_000 + n), instance, service=of))
            step = 1 if of == WATCHER or who in self.quick else 2
            for second in range(1 + n % step, seconds, step):
                if not any(a <= second < b for a, b in self.silent.get((of, instance), ())) and not (
                    second >= self.gone.get((of, instance), 10_000)
                ):
                    offset += 1
                    beat = Beat(health=self._said(who, second) if who in self.ill else None)
                    log.beats.append(oracle.OracleBeat(instance, Stamp(T0 + second * 1000 + n % 990, 1, offset), beat))
        for second in range(seconds):
            log.shards_seen[T0 + second * 1000 + TICK] = set(range(SHARDS))
        return log

    def _said(self, who: Who, second: int) -> Health:
        return Health.FAIL if any(a <= second < b for a, b in self.ill[who]) else Health.PASS

    def job(self) -> Job:
        return Job(gate=Gate(SHARDS, TICK, brake_rules=self.rules, damping=self.damping))


@dataclass
class Run:
    """A fleet through the folds, published after every tick as readers would see it."""

    fleet: Fleet
    log: oracle.Log
    restarts: Random | None = None
    shards: list[int] = field(default_factory=lambda: list(range(SHARDS)))
    job: Job = field(init=False)
    tables: dict[ServiceKey, dict[str, str]] = field(default_factory=dict)
    protected: dict[ServiceKey, bool] = field(default_factory=dict)
    changes: int = 0

    def __post_init__(self) -> None:
        self.job = self.fleet.job()

    def seconds(self, seconds: int, start: int = 0) -> Iterator[int]:
        """Play tick after tick; yield the end of each."""
        by_tick: dict[int, list[oracle.OracleBeat]] = {}
        for beat in self.log.beats:
            by_tick.setdefault(beat.stamp.at // TICK, []).append(beat)
        events = sorted(self.log.events, key=lambda e: e.stamp)
        for second in range(start, seconds):
            end = T0 + second * 1000 + TICK
            for event in events:
                if end - TICK <= event.stamp.at < end:
                    self.tell(event)
            beats = by_tick.get(end // TICK - 1, [])
            for shard in self.shards:
                mine = [TimedBeat(*b, raw(b.beat)) for b in beats if shard_of(b.instance, SHARDS) == shard]
                self.job.tick(end, shard, mine)
            if self.restarts is not None and self.restarts.random() < 0.1:
                self.job = self.job.restart()
            self.publish()
            yield end

    def tell(self, event: InstanceEvent) -> None:
        self.job.register(event)

    def publish(self) -> None:
        for of in self.job.stores:
            store = self.job.stores[of]
            fold = self.job.fold(of)
            plan = fold.plan()
            if plan is None:
                continue
            publication = plan.publication
            fold.done(plan)
            table = self.tables.setdefault(of, {})
            if publication.op is ChangeOp.SNAPSHOT:
                table.clear()
            for instance, text in publication.routes.items():
                if text is None:
                    del table[instance]
                else:
                    table[instance] = text
            self.changes += bool(publication.routes)
            self.protected[of] = publication.protected
            assert publication.endpoints == len(table)
            store.refreeze()

    @property
    def held(self) -> set[Who]:
        return {(t.service, t.instance) for t, w in self.job.gate.waiting.items() if w.phase is Phase.HELD}

    @property
    def left(self) -> set[Who]:
        """Who is out by the end of its lease, as the route fold knows it."""
        return {
            (of, i)
            for of in self.job.stores
            for i in self.job.fold(of).ids()
            if (v := self.job.fold(of).view(i)) is not None and v.lease is Lease.LAPSED and v.held is None
        }


def of(run: Run, n: int) -> set[str]:
    return set(run.tables.get(service(n), {}))


def ids(n: int, size: int) -> set[str]:
    return {f"s{n}-{i}" for i in range(size)}
