"""The brake on whole fleets, against the slow reading of the same log."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model import oracle
from tests.model.events import T0
from tests.model.job import SHARDS, TICK
from tests.model.played import HOLD_S, LEASE_S, WATCHER, Fleet, Run, Who, ids, of, service
from waypost.model.brake import BrakeRules
from waypost.model.events import Hold, InstanceEvent, Op
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

LAW = settings(derandomize=True, deadline=None, max_examples=12)


def agrees(run: Run, end: int) -> None:
    meant = oracle.braked(run.log, run.fleet.rules, end)
    assert (run.held, run.left) == (set(meant.held), meant.left.keys() | meant.out), end - T0


def part(n: int, size: int, percent: int) -> list[Who]:
    return [(service(n), f"s{n}-{i}") for i in range(size * percent // 100)]


def test_beats_that_return_end_the_hold_at_once_and_the_few_still_silent_leave() -> None:
    fleet = Fleet([20, 200])
    fleet.silence(part(0, 20, 75), 20, 40)
    fleet.silence(part(0, 20, 20), 40)
    run = Run(fleet, fleet.log(60))
    protected = {}

    for end in run.seconds(60):
        protected[(end - T0) // 1000] = run.protected.get(service(0), False)

    assert protected[39]
    assert not protected[43]
    assert of(run, 0) == ids(0, 20) - {i for _, i in part(0, 20, 20)}
    agrees(run, end)


def test_a_hold_ends_and_the_one_that_beat_last_leaves_after_all_others() -> None:
    fleet = Fleet([5, 200])
    fleet.silence(part(0, 5, 80), 20)
    fleet.silence([(service(0), "s0-4")], 24)
    seconds = 24 + LEASE_S + HOLD_S + 10
    run = Run(fleet, fleet.log(seconds))
    sizes = []

    for _ in run.seconds(seconds):
        if not sizes or sizes[-1] != of(run, 0):
            sizes.append(of(run, 0))

    assert sizes[-1] == set()
    assert sizes[-2] == {"s0-4"}
    assert run.held == set()
    assert run.protected[service(0)] is False


def test_an_operator_ends_a_hold() -> None:
    fleet = Fleet([20, 200])
    fleet.silence(part(0, 20, 55), 20)
    run = Run(fleet, fleet.log(45))

    for _ in run.seconds(40):
        pass
    assert run.protected[service(0)]
    run.tell(InstanceEvent(op=Op.UNPROTECT, service=service(0), instance="", stamp=Stamp(T0 + 40_001, 0, 99_999)))
    run.publish()

    assert of(run, 0) == ids(0, 20) - {i for _, i in part(0, 20, 55)}
    assert run.protected[service(0)] is False
    for _ in run.seconds(45, start=40):
        assert run.held == set()


def test_a_hold_time_of_its_own() -> None:
    fleet = Fleet([20, 20, 300], BrakeRules(hold_ms=600_000, hold_by_service={service(0): 20_000}))
    fleet.silence(part(0, 20, 60), 20)
    fleet.silence(part(1, 20, 60), 20)
    run = Run(fleet, fleet.log(70))

    for _ in run.seconds(70):
        pass

    assert len(of(run, 0)) == 8
    assert len(of(run, 1)) == 20


def test_without_a_brake_everything_lapses() -> None:
    fleet = Fleet([20, 20], BrakeRules(enabled=False))
    fleet.silence(part(0, 20, 100), 20)
    run = Run(fleet, fleet.log(40))

    for _ in run.seconds(40):
        pass

    assert of(run, 0) == set()
    assert run.protected[service(0)] is False


def test_the_last_endpoint_of_a_service_stays_for_the_hold_time() -> None:
    fleet = Fleet([2, 200])
    fleet.silence([(service(0), "s0-0")], 20)
    fleet.silence([(service(0), "s0-1")], 40)
    seconds = 40 + LEASE_S + HOLD_S + 10
    run = Run(fleet, fleet.log(seconds))
    seen = []

    for _ in run.seconds(seconds):
        if not seen or seen[-1] != of(run, 0):
            seen.append(of(run, 0))

    assert seen[-3:] == [{"s0-0", "s0-1"}, {"s0-1"}, set()]


def test_what_the_last_endpoint_is_held_for_is_said() -> None:
    fleet = Fleet([1, 200])
    fleet.silence([(service(0), "s0-0")], 20)
    run = Run(fleet, fleet.log(40))

    for _ in run.seconds(40):
        pass

    assert of(run, 0) == {"s0-0"}
    assert run.protected[service(0)]
    view = run.job.fold(service(0)).view("s0-0")
    assert view is not None
    assert view.spare is not None
    assert view.spare.why is Hold.LAST


STORIES = st.integers(0, 2**32).map(Random)


def a_fleet(random: Random) -> Fleet:
    fleet = Fleet([random.choice([1, 2, 3, 5, 9, 20]) for _ in range(random.randrange(1, 6))])
    fleet.rules = BrakeRules(hold_ms=random.choice([15_000, 40_000, 100_000]), fleet_min=random.choice([3, 10]))
    named = [who for who in fleet.instances if who[0] != WATCHER]
    for _ in range(random.randrange(1, 4)):
        percent = random.choice([10, 15, 30, 55, 90, 100])
        some = random.sample(named, max(1, len(named) * percent // 100))
        start = random.randrange(10, 60)
        fleet.silence(some, start, start + random.choice([8, 20, 45, 10_000]))
    for who in random.sample(named, random.randrange(0, min(3, len(named)) + 1)):
        fleet.gone[who] = random.randrange(10, 90)
    return fleet


@LAW
@given(STORIES)
def test_the_brake_does_what_the_contract_says_whenever_the_job_restarts(random: Random) -> None:
    fleet = a_fleet(random)
    run = Run(fleet, fleet.log(100), restarts=random)

    for end in run.seconds(100):
        if random.random() < 0.1:
            agrees(run, end)

    agrees(run, end)


@LAW
@given(STORIES)
def test_no_table_becomes_empty_by_leases_before_a_hold_is_over(random: Random) -> None:
    fleet = a_fleet(random)
    run = Run(fleet, fleet.log(100), restarts=random)
    before: dict[ServiceKey, set[str]] = {}
    last_beat = {b.instance: 0 for b in run.log.beats}

    for end in run.seconds(100):
        for beat in run.log.beats:
            if beat.stamp.at < end:
                last_beat[beat.instance] = max(last_beat.get(beat.instance, 0), beat.stamp.at)
        for name, table in run.tables.items():
            for instance in before.get(name, set()) - set(table):
                if (name, instance) in fleet.gone:
                    continue
                newest = max(T0, last_beat.get(instance, 0))
                assert newest + LEASE_S * 1000 <= end, "left while its last beat is younger than its lease"
                if not table:
                    assert newest + LEASE_S * 1000 + fleet.rules.hold_ms <= end + TICK, "emptied by a lease"
            before[name] = set(table)


@LAW
@given(STORIES)
def test_nobody_is_held_for_ever(random: Random) -> None:
    fleet = a_fleet(random)
    seconds = 70 + LEASE_S + fleet.rules.hold_ms // 1000 + 10
    run = Run(fleet, fleet.log(seconds))

    for _ in run.seconds(seconds):
        pass

    assert run.held == set()
    assert not any(run.protected.values())
    silent = {i for (_, i), spans in fleet.silent.items() if any(b > seconds for _, b in spans)} | {
        i for _, i in fleet.gone
    }
    for n, size in enumerate(fleet.sizes):
        assert of(run, n) == ids(n, size) - silent


@LAW
@given(STORIES)
def test_the_order_of_the_shards_does_not_matter(random: Random) -> None:
    fleet = a_fleet(random)
    log = fleet.log(70)
    one, other = Run(fleet, log), Run(fleet, log, shards=list(reversed(range(SHARDS))))

    for run in (one, other):
        for _ in run.seconds(70):
            pass

    assert (one.tables, one.protected, one.held) == (other.tables, other.protected, other.held)


@LAW
@given(STORIES)
def test_counting_by_changes_ends_where_counting_anew_does(random: Random) -> None:
    fleet = a_fleet(random)
    run = Run(fleet, fleet.log(80), restarts=random)

    for _ in run.seconds(80):
        counted: dict[ServiceKey, int] = {}
        for shard in run.job.leases:
            for leases in shard.leases.values():
                for lease in leases:
                    if not lease.lapsed:
                        counted[lease.service] = counted.get(lease.service, 0) + 1
        assert run.job.gate.live == counted
