"""The repair job without Flink: its operators, the log they read and write, and a cluster behind the last of them.

A checkpoint is what Flink would keep: every operator's state and how far the log was read. A crash goes back to it;
what was written to Kafka and what was done to the cluster stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any
from zlib import crc32

import orjson
from pyflink.common import Row

from jobs.operators.alerts import DECISIONS, TargetFold
from jobs.operators.budget import RESULTS, BudgetStage
from jobs.operators.incidents import IncidentStage
from jobs.operators.outputs import DEAD_LETTERS
from jobs.operators.repair_inputs import AlertDecoder, ChangeReader, ResultDecoder, WordDecoder
from jobs.operators.repairs import ISOLATIONS, RepairExecution
from sinks.kubernetes_repair import KubernetesRepairSink
from tests.jobs.fakes import Checkpoint, Clock, FakeRuntimeContext, Subtask, run_for
from tests.model.repairs import T0
from waypost.model.alert import Alert
from waypost.model.fencing import WriterId
from waypost.model.isolation import Isolation
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.repair.configuration import ConfigUnreadable, Configured, Reading
from waypost.repair.fake import FakeCluster
from waypost.wire.alerts import alert_key, encode_alert
from waypost.wire.config import ConfigRecord, encode_config
from waypost.wire.isolation import decode_isolation
from waypost.wire.repair_config import POLICIES, Switch, switch_config
from waypost.wire.repair_decisions import DecisionKind, DecisionRecord, decode_decision
from waypost.wire.repair_results import RepairResult, decode_result

WRITER = WriterId("a" * 32, 0)

DECODERS = {
    "alerts": AlertDecoder,
    "repair-results": ResultDecoder,
    "service-config": WordDecoder,
    "route-changes": ChangeReader,
}


class Part(Subtask):
    """An operator whose outputs go on to whoever wants them. `one_key`: it has a single key."""

    def __init__(
        self, operator: Any, clock: Clock, state: Checkpoint | None, emit: Callable[[Any, Row], None], *,
        one_key: bool = False,
    ) -> None:  # fmt: skip
        self._emit, self._one_key = emit, one_key
        super().__init__(operator, WRITER, clock, state)

    def process(self, row: Row) -> None:
        self.key = "" if self._one_key else row[0]
        self._collect(self._operator.process_element(row, self))

    def _collect(self, results: Iterator[Any] | None) -> None:
        for result in results or ():
            tag, row = result if isinstance(result, tuple) else (None, result)
            self._emit(tag, row)


@dataclass
class _Saved:
    states: list[Checkpoint]
    read: int


@dataclass
class World:
    """`log` is all of Kafka that the job reads, in order: (topic, key, value)."""

    clock: Clock = field(default_factory=lambda: Clock(T0))
    cluster: FakeCluster = field(default_factory=FakeCluster)
    log: list[tuple[str, bytes | None, bytes | None]] = field(default_factory=list)
    configs: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    decisions: list[DecisionRecord] = field(default_factory=list)
    results: list[RepairResult] = field(default_factory=list)
    isolations: list[Isolation] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    settles: bool = True
    settle_ms: int = 0
    """How long the budget waits for its tables after each start, and an executor with what it had under way."""
    readable: bool = True
    behind_ms: int = 0
    """How old records are when they are read."""
    carried: list[str] = field(default_factory=list)
    """Every text that would go through Java."""

    def __post_init__(self) -> None:
        self._read = 0
        self._revisions: dict[ServiceKey, int] = defaultdict(int)
        self._start([None, None, None, None])
        self.checkpoint()

    # --- the log ------------------------------------------------------------------------------

    def alert(self, *alerts: Alert) -> None:
        for one in alerts:
            self.log.append(("alerts", alert_key(one), encode_alert(one)))
        self.pump()

    def say(self, record: ConfigRecord) -> None:
        """Write a configuration: the operators' readers and the job's source see it."""
        pair = encode_config(record)
        self.configs.append(pair)
        self.log.append(("service-config", *pair))
        self.pump()

    def policies(self, document: str) -> None:
        self.say(ConfigRecord(name=POLICIES, revision=1, value=document))

    def switch(self, enabled: bool) -> None:
        self.say(switch_config(Switch(enabled=enabled, by="anna", at=self.clock.wall)))

    def table(
        self,
        service: ServiceKey,
        endpoints: Iterable[str],
        node: str | Mapping[str, str] = "n1",
        *,
        snapshot: bool = False,
        gap: bool = False,
        rule: str = "register",
    ) -> None:
        """Write a change of a table: to these endpoints in it, and nobody else. `node`: where all of them are, or
        each."""
        base = self._revisions[service]
        revision = base + (2 if gap else 1)
        now = {
            name: {"address": _address(name), "port": 80, "weight": 100, "zone": "",
                   "node": node if isinstance(node, str) else node[name], "metadata": {}, "since": 1, "held": False}
            for name in endpoints
        }  # fmt: skip
        gone = [] if snapshot else sorted(self._endpoints[service] - now.keys())
        self._endpoints[service] = set(now)
        self._revisions[service] = revision
        doc = {
            "service": service.service, "namespace": service.namespace, "op": "snapshot" if snapshot else "delta",
            "revision": revision, "base": base + 1 if gap else base, "epoch": 1,
            "event_time": self.clock.wall, "rule": rule,
            "digest": "0" * 16, "protected": False, "cause": [], "delta": {"set": now, "delete": gone},
            "chunk": {"i": 1, "n": 1},
        }  # fmt: skip
        self.log.append(("route-changes", str(service).encode(), orjson.dumps(doc)))
        self.pump()

    _endpoints: dict[ServiceKey, set[str]] = field(default_factory=lambda: defaultdict(set))

    def raw(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        self.log.append((topic, key, value))
        self.pump()

    # --- time and crashes ---------------------------------------------------------------------

    def run_for(self, ms: int, step_ms: int = 1_000) -> None:
        """Let time pass; in between controllers do their work."""
        for _ in range(0, ms, step_ms):
            run_for(step_ms, *self.parts)
            self.pump()
            if self.settles:
                self.cluster.settle()

    def checkpoint(self) -> None:
        self._saved = _Saved([part.state.copy() for part in self.parts], self._read)

    def crash(self) -> None:
        self._start([state.copy() for state in self._saved.states])
        self._read = self._saved.read
        self.pump()

    def pump(self) -> None:
        """Hand over what is in the log and was not read; what the job writes meanwhile too."""
        while self._read < len(self.log):
            topic, key, value = self.log[self._read]
            self._read += 1
            row = Row(_text(key), _text(value), 0, self._read, self.clock.wall - self.behind_ms)
            for result in self._decoders[topic].process_element(row, None):
                if isinstance(result, tuple):
                    assert result[0] is DEAD_LETTERS
                    self.dead.append(orjson.loads(result[1][1])["reason"])
                    continue
                self.carried.append(result[2])
                if topic in ("alerts", "route-changes"):
                    self.incidents.process(result)
                else:
                    self.fold.process(result)
                if topic in ("repair-results", "route-changes"):
                    self.budget.process(result)

    # --- what is seen -------------------------------------------------------------------------

    def kinds(self) -> list[str]:
        """Return the decisions in order, refusals by their reason."""
        return [d.reason.value if d.reason is not None else d.kind.value for d in self.decisions]

    def granted(self) -> list[DecisionRecord]:
        return [d for d in self.decisions if d.kind in (DecisionKind.ACT, DecisionKind.UNDO)]

    def calls(self, *names: str) -> list[str]:
        return [about for call, about in self.cluster.calls if call in names]

    def timers(self) -> int:
        """Return how many timers there are, but for that of the symptoms: it ends by itself."""
        return sum(len(part.state.timers) for part in self.parts if part is not self.incidents)

    # --- inside -------------------------------------------------------------------------------

    def _start(self, states: list[Checkpoint | None] | list[Checkpoint]) -> None:
        self._decoders = {topic: decoder(topic) for topic, decoder in DECODERS.items()}
        clock = self.clock
        sink = KubernetesRepairSink(lambda: self.cluster, self._configured, clock=lambda: clock.wall)
        incidents, fold, budget, execution = states
        self.execution = Part(RepairExecution(sink, self.settle_ms), clock, execution, self._from_execution)
        self.budget = Part(
            BudgetStage(self._configured, self.settle_ms), clock, budget, self._from_budget, one_key=True
        )
        self.fold = Part(TargetFold(self._configured), clock, fold, self._from_fold)
        self.incidents = Part(IncidentStage(), clock, incidents, self._from_incidents, one_key=True)
        for decoder in self._decoders.values():
            decoder.open(FakeRuntimeContext(self.fold, WRITER))

    @property
    def parts(self) -> list[Part]:
        return [self.incidents, self.fold, self.budget, self.execution]

    def _configured(self) -> Configured:
        return Configured(lambda: _Feed(self), lambda: self.clock.wall)

    def _from_incidents(self, tag: Any, row: Row) -> None:
        assert tag is None
        self.carried.append(row[2])
        self.fold.process(row)

    def _from_fold(self, tag: Any, row: Row) -> None:
        if tag is DECISIONS:
            self.decisions.append(decode_decision(row[1]))
        else:
            assert tag is None
            self.carried.append(row[2])
            self.budget.process(row)

    def _from_budget(self, tag: Any, row: Row) -> None:
        if tag is DECISIONS:
            self.decisions.append(decode_decision(row[1]))
        elif tag is RESULTS:
            self._result(row)
        else:
            assert tag is None
            self.carried.append(row[2])
            self.execution.process(row)

    def _from_execution(self, tag: Any, row: Row) -> None:
        if tag is ISOLATIONS:
            self.isolations.append(decode_isolation(row[1], Stamp(self.clock.wall, 0, len(self.isolations))))
        else:
            assert tag is None
            self._result(row)

    def _result(self, row: Row) -> None:
        self.results.append(decode_result(row[1]))
        self.log.append(("repair-results", row[0], row[1]))


class _Feed:
    def __init__(self, world: World) -> None:
        self._world, self._next = world, 0

    def read(self) -> Reading:
        if not self._world.readable:
            raise ConfigUnreadable("no broker")
        reading = Reading(self._next == 0, self._world.configs[self._next :])
        self._next = len(self._world.configs)
        return reading

    def close(self) -> None:
        pass


def _address(name: str) -> str:
    """Return an address of its own for each instance."""
    return str(IPv4Address(0x0A000000 + crc32(name.encode()) % 2**24))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
