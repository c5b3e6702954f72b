"""Five seconds down, five seconds up, a hundred times: how often a table changes because of it.

The bound: `BOUND` changes of the table per instance, however long it goes on. It leaves as often as its penalty fits
under `suppress` and once more, comes back in between, and comes back for good when it has been calm for a while.
"""

from __future__ import annotations

import pytest

from tests.model.played import Fleet, Run, Who, of, service
from waypost.model.damping import PENALTY, DampingRules
from waypost.model.lifecycle import Health

RULES = DampingRules()
DEPARTURES = RULES.suppress // PENALTY + 1
BOUND = 2 * DEPARTURES
TIMES, START, PERIOD = 100, 20, 10
STOPS = START + PERIOD * TIMES
ONE: Who = (service(0), "s0-0")


def downs() -> list[tuple[int, int]]:
    return [(at, at + PERIOD // 2) for at in range(START, STOPS, PERIOD)]


def a_fleet(size: int, how: str) -> Fleet:
    """One of `size` goes down and up: it stops beating, or its beats or a checker say that it fails."""
    fleet = Fleet([size, 8], damping=RULES)
    if how == "lease":
        fleet.quick.add(ONE)
        for start, stop in downs():
            fleet.silence([ONE], start, stop)
    elif how == "beats":
        fleet.ill[ONE] = downs()
    else:
        fleet.checks[ONE] = [word for a, b in downs() for word in ((a, Health.FAIL), (b, Health.PASS))]
    return fleet


@pytest.mark.parametrize("how", ["lease", "beats", "checks"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_hundred_times_down_and_up_are_few_changes_and_no_empty_table(size: int, how: str) -> None:
    fleet = a_fleet(size, how)
    seconds = STOPS + RULES.longest_ms // 1000 + 20
    run = Run(fleet, fleet.log(seconds))
    last = ""
    changes, at = 0, 0

    for second, _ in enumerate(run.seconds(seconds)):
        table = run.tables[service(0)]
        assert table, "a table became empty by a flap"
        assert {"s0-1", "s0-2"} <= table.keys() or size == 1
        if second >= START - 1 and table.get("s0-0", "") != last:
            changes, at, last = changes + 1, second, table.get("s0-0", "")

    assert 2 < changes - 1 <= BOUND
    assert START + PERIOD * (DEPARTURES + 1) < at <= STOPS + RULES.longest_ms // 1000, "back when it is calm"
    assert of(run, 0) == {f"s0-{i}" for i in range(size)}
    assert not run.protected[service(0)]


@pytest.mark.parametrize("how", ["lease", "beats", "checks"])
def test_while_it_flaps_its_entry_stands_still(how: str) -> None:
    """A lone instance stays in the table, held; one of several stays away."""
    lone, one_of_three = (Run(f := a_fleet(size, how), f.log(STOPS)) for size in (1, 3))
    damped = START + PERIOD * (DEPARTURES + 1)
    seen: list[set[tuple[str, str]]] = [set(), set()]

    for second, _ in enumerate(zip(lone.seconds(STOPS), one_of_three.seconds(STOPS), strict=True)):
        if second > damped:
            for run, found in zip((lone, one_of_three), seen, strict=True):
                found.add((run.tables[service(0)].get("s0-0", ""), str(run.protected[service(0)])))

    assert [len(found) for found in seen] == [1, 1]
    [(entry, protected)], [(gone, _)] = seen
    assert '"held":true' in entry
    assert protected == "True"
    assert gone == ""
