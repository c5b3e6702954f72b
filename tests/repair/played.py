"""An executor on the fake cluster, with a clock that only tests move, and crashes wherever a test wants them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.model.repairs import MINUTE, PAYMENTS, T0
from waypost.model.alert import NODE_TARGET, Target
from waypost.model.isolation import Isolation
from waypost.model.kill_switch import Control
from waypost.model.refusals import Reason
from waypost.model.repair_action import RepairAction, action_id
from waypost.model.repair_steps import Do, Step
from waypost.model.surroundings import NOWHERE, Surroundings
from waypost.repair.execution import Execution, Phase
from waypost.repair.execution_state import TargetWork, decode_work, encode_work
from waypost.repair.executor import Executor, World
from waypost.repair.fake import FakeCluster
from waypost.repair.port import CallFailed
from waypost.wire.repair_results import RepairResult

DWELL = 10_000


def an_action(*steps: Step, node: str = "", attempt: int = 1, **facts: Any) -> RepairAction:
    target = Target(NODE_TARGET, node) if node else Target(*PAYMENTS)
    told: dict[str, Any] = {
        "id": action_id(target, "f1", T0, attempt), "target": target, "type": "PodCrash", "fingerprint": "f1",
        "starts_at": T0, "attempt": attempt, "policy": "p", "policy_version": "1",
        "steps": steps or (Step.of(Do.EVICT_POD),), "node": node, "pod": "" if node else "payments-1",
        "dwell_ms": DWELL, "cooldown_ms": MINUTE, "decided_at": T0, "granted_at": T0,
    }  # fmt: skip
    return RepairAction(**(told | facts))


class Hooks:
    """Webhooks that remember; `error` is raised by the next ones."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, bytes, str]] = []
        self.errors: list[CallFailed] = []

    def post(self, url: str, body: bytes, *, timeout_ms: int, key: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.posted.append((url, body, key))


@dataclass
class Played:
    """One target's work. `saved` is the last checkpoint; `crash` goes back to it."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    hooks: Hooks = field(default_factory=Hooks)
    now: int = T0
    enabled: bool = True
    readable: bool = True
    settles: bool = True
    """Whether controllers do their work between turns."""
    work: TargetWork = field(default_factory=TargetWork)
    saved: bytes = b""
    results: list[RepairResult] = field(default_factory=list)
    isolations: list[Isolation] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    turns: int = 0

    def __post_init__(self) -> None:
        self.save()
        world = World(
            cluster=self.cluster, webhooks=self.hooks, stopped=self._stopped, alarm=self.alarms.append,
        )  # fmt: skip
        self.executor = Executor(world, lambda action: self.work.isolated_by(action))

    def give(self, action: RepairAction, around: Surroundings = NOWHERE) -> None:
        if not self.work.knows(action.id):
            self.work = self.work.having(Execution.of(action, around, self.now))

    def cancel(self) -> None:
        for one in list(self.work.running.values()):
            self.work = self.work.having(replace(one, cancelled=True, wake_at=self.now))

    def turn(self) -> bool:
        """Let time pass to the next turn and take it; False when nothing is left to do."""
        if not self.work.running:
            return False
        one = min(self.work.running.values(), key=lambda e: (e.wake_at, e.action.id))
        self.now = max(self.now + 1, one.wake_at)
        given = self.executor.advance(one, self.now)
        self.isolations += given.isolations
        self.work = self.work.having(given.execution)
        if given.result is not None:
            self.results.append(given.result)
            self.work = self.work.ended(given.execution)
        if self.settles:
            self.cluster.settle()
        self.turns += 1
        return True

    def to_the_end(self, most: int = 5_000) -> RepairResult:
        for _ in range(most):
            if not self.turn():
                return self.results[-1]
        raise AssertionError(f"no end: {self.work}")

    def until_verifying(self) -> None:
        while all(one.phase is not Phase.VERIFYING for one in self.work.running.values()):
            assert self.turn()

    def save(self) -> None:
        self.saved = encode_work(self.work)

    def crash(self) -> None:
        self.work = decode_work(self.saved)

    def evictions(self) -> list[str]:
        return [about for call, about in self.cluster.calls if call == "evict"]

    def _stopped(self) -> Reason | None:
        return Control(self.enabled, self.now if self.readable else self.now - MINUTE).refuses(self.now)
