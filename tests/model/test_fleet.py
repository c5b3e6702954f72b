"""A whole fleet through lease folds, gate and route fold, tick by tick, against the slow reading of the same log.

Everything that happens to real fleets: beats with jitter, silent deaths, drains, deregistrations and new
registrations, silence of the whole log, ticks without witness, the job restarted from its state, registrations that
arrive late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from tests.model import oracle
from tests.model.events import T0, an_event, deregistered, drained, registered, updated
from tests.model.job import PLAN, SHARDS, TICK, Job, raw
from waypost.model.beats import Beat
from waypost.model.events import InstanceEvent, Op
from waypost.model.leases import TimedBeat
from waypost.model.lifecycle import Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp

SERVICES = [ServiceKey("default", "a"), ServiceKey("default", "b"), ServiceKey("staging", "c")]


@dataclass
class Log:
    """What was written: registrations, beats, and in which ticks the witness wrote for every shard."""

    events: list[InstanceEvent] = field(default_factory=list)
    beats: list[oracle.OracleBeat] = field(default_factory=list)
    witnessed: set[int] = field(default_factory=set)
    seconds: int = 0

    @property
    def complete_ticks(self) -> set[int]:
        """A tick is complete by the witness, or because somebody beat in every shard."""
        seen: dict[int, set[int]] = {}
        for beat in self.beats:
            end = beat.stamp.at // TICK * TICK + TICK
            seen.setdefault(end, set()).add(shard_of(beat.instance, SHARDS))
        return self.witnessed | {end for end, shards in seen.items() if len(shards) == SHARDS}


def a_log(random: Random, seconds: int = 240) -> Log:
    """Write a log of a dozen instances. A lease is updated only while its instance beats: what an update means for a
    lapse that waits already, the contract does not say."""
    log = Log(seconds=seconds)
    offset = 0

    def stamp(at_ms: int, partition: int = 0) -> Stamp:
        nonlocal offset
        offset += 1
        return Stamp(T0 + at_ms, partition, offset)

    silences = sorted((s := random.randrange(30, seconds - 40), s + random.choice([5, 20, 60])) for _ in range(2))
    gaps = {random.randrange(20, seconds) for _ in range(random.randrange(0, 4))}

    def is_silent(at_ms: int) -> bool:
        return any(start * 1000 <= at_ms < stop * 1000 for start, stop in silences)

    log_is_away = random.random() < 0.5
    for second in range(seconds):
        silent = is_silent(second * 1000)
        if second not in gaps and not (silent and log_is_away):
            log.witnessed.add(T0 + second * 1000 + TICK)
    for n in range(12):
        service, instance = random.choice(SERVICES), f"i-{n}"
        lease = random.choice([2, 5, 10, 30])
        period = random.uniform(0.25, 0.45) * lease * 1000
        begin = random.randrange(0, 20_000)
        log.events.append(registered(stamp(begin), instance, service=service, lease_seconds=lease))
        death = random.choice([seconds * 1000, random.randrange(begin, seconds * 1000)])
        at_ms: float = begin + random.uniform(0, period)
        while at_ms < death:
            if not is_silent(int(at_ms)):
                health = random.choice([None] * 8 + [Health.PASS, Health.FAIL])
                cpu, sent = (
                    random.choice([None, round(random.uniform(0, 2), 3)]),
                    T0 + int(at_ms) - random.randrange(300),
                )
                log.beats.append(
                    oracle.OracleBeat(instance, stamp(int(at_ms), 1), Beat(health=health, cpu=cpu, ts=sent))
                )
            at_ms += period * random.uniform(0.8, 1.2)
        later = random.randrange(begin, seconds * 1000)
        match random.randrange(6):
            case 0:
                log.events.append(drained(stamp(later), instance, service=service))
            case 1:
                log.events.append(deregistered(stamp(later), instance, service=service))
            case 2:
                log.events.append(registered(stamp(later), instance, service=service, lease_seconds=lease))
            case 3:
                log.events.append(deregistered(stamp(later), instance, service=service))
                again = min(later + random.randrange(1, 5_000), seconds * 1000 - 1)
                log.events.append(registered(stamp(again), instance, service=service, lease_seconds=lease))
            case 4 if later < death and not is_silent(later) and not is_silent(max(later - lease * 1000, begin)):
                log.events.append(updated(stamp(later), instance, service=service, lease_seconds=lease + 1))
            case _:
                pass
    for event in [e for e in log.events if e.op is Op.REGISTER]:
        for _ in range(random.randrange(3)):
            when = random.randrange(event.stamp.at - T0, seconds * 1000)
            health = random.choice([Health.PASS, Health.FAIL])
            log.events.append(an_event(Op.STATUS, stamp(when), event.instance, service=event.service, health=health))
    log.events.sort(key=lambda e: e.stamp)
    log.beats.sort(key=lambda b: b.stamp)
    return log


def agree(job: Job, log: Log, until: int) -> None:
    """What the folds say at this moment is what the log up to it means."""
    prefix = oracle.Log(
        shards=SHARDS,
        events=[e for e in log.events if e.stamp.at < until],
        beats=[b for b in log.beats if b.stamp.at < until],
    )
    ticks = {end for end in log.complete_ticks if end <= until}
    wanted = {
        (service, i): known for service, table in oracle.final(prefix, ticks).items() for i, known in table.items()
    }
    found = {
        (service, i): view
        for service in job.stores
        for i in job.fold(service).ids()
        if (view := job.fold(service).view(i))
    }
    assert found.keys() == wanted.keys()
    for key, known in wanted.items():
        view = found[key]
        assert (view.declared, view.health, view.attributes) == (known.declared, known.health, known.attributes), key
        assert known.lease is None or view.lease is known.lease, (key, until - T0, known)


def nobody_leaves_early(job: Job, log: Log, now: int, last: dict[str, int]) -> None:
    """No instance is out while its last beat is younger than its lease on the log's clock."""
    for service in job.stores:
        fold = job.fold(service)
        for instance in fold.ids():
            view = fold.view(instance)
            assert view is not None
            if view.lease is Lease.LAPSED:
                newest = max(view.generation, last.get(instance, 0))
                assert newest + view.attributes.lease_seconds * 1000 <= now, (instance, now - T0)


@pytest.mark.parametrize("seed", range(30))
def test_a_fleet_is_seen_as_its_log_says(seed: int) -> None:
    random = Random(seed)
    log = a_log(random)
    job = Job()
    events, beats = list(log.events), list(log.beats)
    last: dict[str, int] = {}
    told: set[tuple[int, int]] = set()

    for second in range(log.seconds):
        end = T0 + second * 1000 + TICK
        while events and events[0].stamp.at < end:
            job.register(events.pop(0))
        of_tick: list[list[TimedBeat]] = [[] for _ in range(SHARDS)]
        while beats and beats[0].stamp.at < end:
            beat = beats.pop(0)
            of_tick[shard_of(beat.instance, SHARDS)].append(TimedBeat(*beat, raw(beat.beat)))
            last[beat.instance] = beat.stamp.at
        for shard in random.sample(range(SHARDS), SHARDS):
            random.shuffle(of_tick[shard])
            if of_tick[shard] or end in log.witnessed:
                job.tick(end, shard, of_tick[shard])
                told.add((end, shard))
        if random.random() < 0.5:
            for waiting in sorted(job.gate.rows):
                job.pass_on(job.gate.release(waiting))
        if random.random() < 0.05:
            job = job.restart()
        nobody_leaves_early(job, log, end, last)
        if second % 40 == 39 and end in log.witnessed:
            agree(job, log, end)

    agree(job, log, T0 + log.seconds * 1000)
    rows = {
        T0 + n * 1000 + TICK: {s for s in range(SHARDS) if (T0 + n * 1000 + TICK, s) in told}
        for n in range(log.seconds)
    }
    told_of = oracle.Log(shards=SHARDS, events=log.events, beats=log.beats, shards_seen=rows)
    assert job.windows() == oracle.windows(told_of, PLAN, until=T0 + log.seconds * 1000)
    assert job.windows()


@pytest.mark.parametrize("seed", range(5))
def test_replaying_a_log_into_the_state_it_left_changes_nothing(seed: int) -> None:
    log = a_log(Random(seed))
    job = Job()

    def play() -> dict[tuple[ServiceKey, str], object]:
        for event in log.events:
            job.register(event)
        for second in range(log.seconds):
            end = T0 + second * 1000 + TICK
            for shard in range(SHARDS):
                beats = [
                    TimedBeat(*b, raw(b.beat))
                    for b in log.beats
                    if end - TICK <= b.stamp.at < end and shard_of(b.instance, SHARDS) == shard
                ]
                job.tick(end, shard, beats)
        return {(s, i): job.fold(s).view(i) for s in job.stores for i in job.fold(s).ids()}

    assert play() == play()
