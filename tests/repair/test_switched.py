"""The switch at the moment of the call: a slow API server does not carry a repair past it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.model.repairs import SECOND, T0
from tests.repair.played import Played, an_action
from tests.repair.test_nodes import a_cluster, repairing
from tests.repair.test_pods import a_shop
from waypost.model.kill_switch import Control
from waypost.model.refusals import Reason
from waypost.model.repair_action import Outcome, RepairAction
from waypost.model.repair_steps import Do, Step
from waypost.repair.executor import World
from waypost.repair.fake import FakeCluster
from waypost.repair.objects import DEPLOYMENT
from waypost.repair.port import Cluster, Stopped
from waypost.repair.switched import SwitchedCluster

CHANGES = ("evict", "change_workload", "change_node")
SLOW_MS = 5 * SECOND


class Slow:
    """A cluster whose every answer takes 5 s; `off_at`: when a person switches repairs off."""

    def __init__(self, cluster: FakeCluster, off_at: int) -> None:
        self.now, self.off_at, self._cluster = T0, off_at, cluster
        self.changed_at: list[int] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if name in CHANGES:
                self.changed_at.append(self.now)
            self.now += SLOW_MS
            return getattr(self._cluster, name)(*args, **more)

        return call

    def stopped(self) -> Reason | None:
        return Control(self.now < self.off_at, self.now).refuses(self.now)


def a_pod() -> tuple[Played, RepairAction]:
    played, pod = a_shop()
    return played, an_action(pod=pod.name)


def a_restart() -> tuple[Played, RepairAction]:
    return a_shop()[0], an_action(Step.of(Do.RESTART), pod="")


def a_node() -> tuple[Played, RepairAction]:
    return a_cluster(), repairing()


@pytest.mark.parametrize("of", [a_pod, a_restart, a_node])
@pytest.mark.parametrize("off_after", range(0, 61, 4))
def test_nothing_is_changed_once_it_is_off_however_slow_the_server_is(
    of: Callable[[], tuple[Played, RepairAction]], off_after: int
) -> None:
    played, action = of()
    slow = Slow(played.cluster, T0 + off_after * SECOND)
    world = World(cluster=slow, webhooks=played.hooks, stopped=slow.stopped)  # type: ignore[arg-type]
    played.executor = type(played.executor)(world)
    played.give(action)

    for _ in range(60):
        played.now = slow.now = max(played.now, slow.now)
        if not played.turn():
            break

    assert all(at < slow.off_at for at in slow.changed_at)


def test_a_step_that_was_stopped_before_its_call_goes_on_when_it_is_on_again() -> None:
    played, action = a_restart()
    slow = Slow(played.cluster, T0 + SECOND)
    world = World(cluster=slow, webhooks=played.hooks, stopped=slow.stopped)  # type: ignore[arg-type]
    played.executor = type(played.executor)(world)
    played.give(action)
    played.turn()
    [one] = played.work.running.values()
    assert "stands still: kill-switch" in one.detail
    assert played.cluster.calls == []

    slow.off_at = T0 + 3_600 * SECOND
    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert played.cluster.restarts == {"deployment shop/payments": 1}


def test_every_change_asks_and_what_is_told_does_not() -> None:
    fake = FakeCluster()
    node = fake.add_node("n1")
    workload = fake.add_workload(DEPLOYMENT, "shop", "web")
    [pod] = fake.all_pods()
    off: Cluster = SwitchedCluster(fake, lambda: Reason.KILL_SWITCH)

    for change in (
        lambda: off.evict(pod),
        lambda: off.change_workload(workload, annotations={"a": "b"}),
        lambda: off.change_node(node, unschedulable=True, annotations={}),
    ):
        with pytest.raises(Stopped, match="kill-switch"):
            change()

    assert fake.calls == []
    assert off.node("n1") == node
    assert off.pods_on("n1") == [pod]
