"""Shares of a service and of the fleet fall silent at once: whom the brake holds, and how each of the two stories ends.

Every story is played twice in one log. The first time they beat again; the second time they do not, and the hold time
passes. In between lies more than the brake's windows, so that the one does not count for the other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import oracle
from tests.model.events import T0
from tests.model.played import LEASE_S, RULES, Fleet, Run, Who, ids, of, service

SIZE = 20
HOLD_S = 20
SILENT, BACK, AGAIN = 6, 18, 82
JUDGED = AGAIN + LEASE_S + 4
"""Everybody silent since AGAIN has lapsed by then."""
END = AGAIN + LEASE_S + HOLD_S + 8

OF_SERVICE = [(10, 2, False), (15, 3, False), (30, 6, False), (55, 11, True), (90, 18, True), (100, 20, True)]
OF_FLEET = [(10, 2, False), (15, 3, False), (30, 6, True), (55, 11, True), (90, 18, True), (100, 20, True)]
"""Percent of each service, that many of its 20, and whether that is too much."""
STORIES = [
    *[pytest.param(1, *row, id=f"{row[0]}%-of-a-service") for row in OF_SERVICE],
    *[pytest.param(3, *row, id=f"{row[0]}%-of-the-fleet") for row in OF_FLEET],
]


@pytest.mark.parametrize(("services", "percent", "each", "is_held"), STORIES)
def test_a_share_falls_silent_and_comes_back_or_not(services: int, percent: int, each: int, is_held: bool) -> None:
    assert 100 * each == percent * SIZE
    silent: list[Who] = [(service(n), f"s{n}-{i}") for n in range(services) for i in range(each)]
    fleet = Fleet([SIZE] * services + [114] * (services == 1), replace(RULES, hold_ms=HOLD_S * 1000))
    fleet.silence(silent, SILENT, BACK)
    fleet.silence(silent, AGAIN)
    run = Run(fleet, fleet.log(END))
    full = [ids(n, SIZE) for n in range(services)]
    rest = [{i for i in full[n] if (service(n), i) not in silent} for n in range(services)]
    last_beat = {b.instance: b.stamp.at for b in sorted(run.log.beats, key=lambda b: b.stamp)}
    before = full

    for end in run.seconds(END):
        second, now = (end - T0) // 1000, [of(run, n) for n in range(services)]
        if second < SILENT + LEASE_S - 1 or BACK + 2 < second < AGAIN + LEASE_S - 1:
            assert (now, run.held, marked(run)) == (full, set(), set()), "before, and two seconds after the return"
        if second in (BACK, JUDGED):
            assert now == (full if is_held else rest)
            assert run.held == marked(run) == (set(silent) if is_held else set())
        if second == JUDGED:
            meant = oracle.braked(run.log, fleet.rules, end)
            assert (run.held, run.left) == (set(meant.held), meant.left.keys() | meant.out)
        if second <= JUDGED:
            assert all(now), "a table became empty"
        for n, table in enumerate(now if second > JUDGED else ()):
            for instance in before[n] - table:
                held_ms = end - last_beat[instance] - LEASE_S * 1000
                assert HOLD_S * 1000 <= held_ms <= HOLD_S * 1000 + 3000, "leaves when its hold time is over"
            newest = max(full[n], key=lambda i: (last_beat[i], i))
            assert table or before[n] in (set(), {newest}), "the one that beat last leaves last"
        before = now

    assert before == rest, "whoever is silent is out, nobody else"
    assert (run.held, marked(run), any(run.protected.values())) == (set(), set(), False)


def marked(run: Run) -> set[Who]:
    """Who is in a table with the mark of the brake."""
    return {(name, i) for name, table in run.tables.items() for i, text in table.items() if '"held":true' in text}
