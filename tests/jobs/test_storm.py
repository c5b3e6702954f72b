"""Ten thousand notifications, three of each alert, in any order: what is broken is repaired, one at a time, and once.

With ALERTS = 10_000, so thirty thousand notifications, it takes a minute or two and ends the same.
"""

from __future__ import annotations

import random

import pytest

from tests.jobs.repair_world import World
from tests.jobs.test_repairs import ACTING
from tests.model.repairs import MINUTE, SECOND, an_alert
from waypost.model.names import ServiceKey
from waypost.model.repair_action import Outcome
from waypost.model.repair_state import MAX_EPISODES
from waypost.repair.objects import DEPLOYMENT

ALERTS, COPIES, SERVICES = 3_334, 3, 100
KNOWN = 20
"""So many of the services are in tables and in the cluster; the rest are words."""


@pytest.mark.timeout(600)
def test_a_storm_leads_to_few_repairs_and_to_none_twice() -> None:
    world = World()
    world.cluster.add_node("n1")
    world.policies(ACTING % "act")
    for n in range(KNOWN):
        world.cluster.add_workload(DEPLOYMENT, "shop", f"s{n}", replicas=3, node=f"n{n}")
        world.cluster.add_service("shop", f"s{n}", {"app": f"s{n}"})
        pods = [pod.name for pod in world.cluster.pods("shop", {"app": f"s{n}"})]
        world.table(ServiceKey("shop", f"s{n}"), pods, node=f"n{n}")
    world.run_for(SECOND)
    at = world.clock.wall
    alerts = [
        an_alert(service=f"s{n % SERVICES}", pod="", fingerprint=f"f{n}", starts_at=at + n % 1_000)
        for n in range(ALERTS)
    ] * COPIES
    random.Random(7).shuffle(alerts)

    for begin in range(0, len(alerts), 1_000):
        world.alert(*alerts[begin : begin + 1_000])
        world.run_for(100, step_ms=100)
    world.run_for(3 * MINUTE, step_ms=5_000)

    ids = [decision.action.id for decision in world.granted() if decision.action is not None]
    assert len(ids) == len(set(ids))
    touched = world.calls("change_workload")
    assert 0 < len(touched) == len(ids)
    assert all(int(about.rpartition("/s")[2]) < KNOWN for about in touched)
    # One at a time: a repair takes its dwell at least, and a success proves nothing before five minutes.
    assert len(ids) <= 4 * MINUTE // (5 * SECOND)
    assert {result.outcome for result in world.results if result.id in ids} == {Outcome.SUCCEEDED}
    per_fingerprint = [d.fingerprint for d in world.granted()]
    assert len(per_fingerprint) == len(set(per_fingerprint))
    assert ALERTS // SERVICES < MAX_EPISODES
