"""The folds wired together as the job wires them, in memory; everything between two folds goes through its codec."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.model import oracle
from tests.model.stores import FrozenStore
from waypost.model.beats import Beat
from waypost.model.events import InstanceEvent
from waypost.model.gate import Decision, Gate, shard_tick
from waypost.model.health_window import HealthyEndpointAggregator, Partial, WindowPlan
from waypost.model.leases import LeaseShard, TimedBeat
from waypost.model.names import ServiceKey
from waypost.model.service import ServiceFold
from waypost.model.shards import shard_of
from waypost.wire.beats import encode_beat
from waypost.wire.endpoint import JsonRenderer
from waypost.wire.fold_state import (
    decode_clock,
    decode_live,
    decode_shard,
    encode_clock,
    encode_directory,
    encode_last_beats,
    encode_live,
    encode_tallies,
    encode_unknown,
)
from waypost.wire.glue import encode_entry
from waypost.wire.health_window import decode_partials, encode_partial
from waypost.wire.tick import TickReader
from waypost.wire.transitions import (
    decode_flap,
    decode_row,
    decode_transitions,
    decode_waiting,
    encode_flap,
    encode_row,
    encode_transitions,
    encode_waiting,
)

SHARDS = 4
TICK = 1000
PLAN = WindowPlan(size_ms=15_000, buckets=4, tick_ms=TICK)


@dataclass
class Job:
    """All folds of a job."""

    leases: list[LeaseShard] = field(default_factory=lambda: [LeaseShard() for _ in range(SHARDS)])
    gate: Gate = field(default_factory=lambda: Gate(SHARDS, TICK))
    stores: dict[ServiceKey, FrozenStore] = field(default_factory=dict)
    reader: TickReader = field(default_factory=TickReader)
    partials: dict[int, list[Partial]] = field(default_factory=dict)
    """What the shards told of each window, by its end."""

    def fold(self, service: ServiceKey) -> ServiceFold:
        return ServiceFold(service, self.stores.setdefault(service, FrozenStore()), JsonRenderer())

    def register(self, event: InstanceEvent) -> None:
        self.fold(event.service).apply(event)
        self.leases[shard_of(event.instance, SHARDS)].register(event)

    def tick(self, end: int, shard: int, beats: list[TimedBeat]) -> None:
        column = "\x1e".join(encode_entry(b.instance, b.stamp, b.raw) for b in beats)
        result = self.leases[shard].tick(end, self.reader.read(column, []) if beats else ())
        for services in self.leases[shard].end_windows(PLAN.due(end), PLAN, end).values():
            self.partials.setdefault(end, []).extend(decode_partials(encode_partial(services)))
        self.pass_on(self.gate.offer(decode_row(encode_row(shard_tick(end, shard, result)))))

    def pass_on(self, decisions: object) -> None:
        decision: Decision
        for decision in decisions:  # type: ignore[attr-defined]
            for service, transitions in decision.batches.items():
                for transition in decode_transitions(encode_transitions(transitions)):
                    self.fold(service).apply(transition)

    def windows(self) -> oracle.Windows:
        """The windows of all services, merged in some order: those that beat, without the newest word on health."""
        found: oracle.Windows = {}
        for end, partials in self.partials.items():
            for service, tallies in HealthyEndpointAggregator().merge_all(reversed(partials)).items():
                said = {i: tally._replace(failing=0) for i, tally in tallies.items() if tally.beats}
                if said:
                    found[ServiceKey.parse(service), end] = said
        return found

    def restart(self) -> Job:
        return Job(
            leases=[thawed(shard) for shard in self.leases],
            partials=self.partials,
            gate=Gate(
                SHARDS,
                TICK,
                decode_clock(encode_clock(self.gate.clock)),
                {t: decode_waiting(encode_waiting(w)) for t, w in self.gate.waiting.items()},
                {e: {s: decode_row(encode_row(r)) for s, r in rows.items()} for e, rows in self.gate.rows.items()},
                decode_live(encode_live(self.gate.live)),
                {t: decode_flap(encode_flap(f)) for t, f in self.gate.flaps.items()},
                self.gate.brake_rules,
                self.gate.damping,
            ),
            stores=self.stores,
        )


def thawed(shard: LeaseShard) -> LeaseShard:
    """The shard as a restart finds it."""
    shard.arrange()
    return decode_shard(
        encode_directory(shard, SHARDS), encode_last_beats(shard), encode_unknown(shard), SHARDS, encode_tallies(shard)
    )


def raw(beat: Beat) -> str:
    return encode_beat(beat).decode()
