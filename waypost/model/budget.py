"""How many repairs may run at once, per failure domain, learnt from how they end.

    width   8 ┤                         ┌──────
            4 ┤                ┌────────┘      │
            2 ┤       ┌────────┘               └─ cut by a failure, and a pause
            1 ┼───────┘                        ·····
              └─ a success has held for 5 min ─┘

A repair belongs to several domains (its policy; its namespace, or all nodes; its zones) and needs room in each. The
width is never 0 and every pause ends, every place is given back after `RUN_MS` at the latest: no outcome and no
silence stops repairs for ever. A node that was cordoned holds its place until that is taken back, an hour at most, and
counts for a day among those that are out of service: or a false alarm about many nodes would take one after the other.
Another repair of that same node comes in its place.

Beyond that, nothing grants a repair that leaves a service fewer healthy endpoints than `min_healthy`, counting what
was granted already and is not over. A repair of a node leaves such services out (`excluded`) and does the rest.

Source: Karpenter's RFC "Node Repair Under Correlated Failure" (width from 1, doubled by proven success, cut by
failure); medik8s and Draino users ask for the cap on nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from waypost.model.impact import Impact
from waypost.model.kill_switch import STALE_MS, Control
from waypost.model.names import ServiceKey
from waypost.model.refusals import Reason
from waypost.model.repair import RETRY_MS, Refusal
from waypost.model.repair_action import QUEUE_MS, RUN_MS, Outcome, RepairAction
from waypost.model.repair_policy import PolicySet
from waypost.model.repair_steps import Do
from waypost.model.standing import objection

MAX_WAITING = 1_000
"""Actions that wait for room. In a storm the rest is refused, and decided again while its alerts fire."""

_MEMORY_MS = 24 * 3_600_000
"""How long a granted id is remembered. Ids of older decisions have expired long before (`QUEUE_MS`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRules:
    """The limits; times in ms. Doubling `proven_ms` halves how fast trust grows."""

    proven_ms: int = 300_000
    max_width: int = 16
    pause_ms: int = 60_000
    """After a failure; doubled by each in a row, to `longest_pause_ms`."""
    longest_pause_ms: int = 600_000
    cordoned_ms: int = 3_600_000
    """A repaired node holds its place in its domains for so long."""
    out_ms: int = 24 * 3_600_000
    """And so long it is one of the `node_percent`: nobody here sees whether a person has brought it back."""
    node_percent: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The trust in one failure domain. `proof_from`: since when a success holds that may double the width, 0: none.
    `changed_at`: successes of repairs that were granted before it prove nothing."""

    width: int = 1
    proof_from: int = 0
    changed_at: int = 0
    failures: int = 0
    closed_until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A granted action that holds its place until `until`. `done_at`: it is over since then, and its node is still out
    of service; 0: it is not over."""

    domains: tuple[str, ...]
    takes: Mapping[ServiceKey, int]
    node: str
    granted_at: int
    until: int
    done_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """All of it is explicit, so that it can be stored. `granted` remembers ids, `waiting` is in order of asking."""

    domains: Mapping[str, Domain] = field(default_factory=dict)
    held: Mapping[str, Held] = field(default_factory=dict)
    granted: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, RepairAction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """An action with `granted_at`, or why not."""

    action: RepairAction
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The rules in use. `policies` are those in force now. `nodes` is how many nodes the cluster has, 0 when nobody
    knows: then one may be out."""

    policies: PolicySet
    rules: BudgetRules = BudgetRules()
    nodes: int = 0

    def ask(
        self, state: BudgetState, action: RepairAction, impact: Impact, control: Control, now: int
    ) -> tuple[BudgetState, Judged]:
        """Grant an action, or say why not. What may be granted later waits, in the order of asking."""
        state = self._aged(state, now)
        if action.id in state.granted:
            return state, Judged(action, Refusal(reason=Reason.ALREADY_GRANTED))
        refusal, excluded = self._refusal(state, action, impact, control, now)
        if refusal is None:
            granted = replace(action, granted_at=now, excluded=excluded)
            return _holding(_without(state, action.id), granted, impact, now), Judged(granted)
        if refusal.retry_at is None or action.id in state.waiting:
            return state, Judged(action, refusal)
        if len(state.waiting) >= MAX_WAITING:
            return state, Judged(action, Refusal(reason=Reason.QUEUE_FULL))
        return replace(state, waiting={**state.waiting, action.id: action}), Judged(action, refusal)

    def retry(
        self, state: BudgetState, impact_of: Callable[[RepairAction], Impact], control: Control, now: int
    ) -> tuple[BudgetState, list[Judged]]:
        """Ask again for whatever waits; tell only what was granted or is given up. Call it after an outcome, and
        about once in 10 s."""
        told = []
        for action in list(state.waiting.values()):
            if now >= action.decided_at + QUEUE_MS and not action.undoes:
                state = _without(state, action.id)
                told.append(Judged(action, Refusal(reason=Reason.EXPIRED, detail="waited for the budget")))
                continue
            state, judged = self.ask(state, action, impact_of(action), control, now)
            if judged.refusal is None or judged.refusal.retry_at is None:
                state = _without(state, action.id)
                told.append(judged)
        return state, told

    def cancel(self, state: BudgetState, action_id: str) -> tuple[BudgetState, Judged | None]:
        """Let go of an action that still waits: its alert is over. None when it does not wait (any more)."""
        action = state.waiting.get(action_id)
        if action is None:
            return state, None
        return _without(state, action_id), Judged(action, Refusal(reason=Reason.CANCELLED))

    def settle(self, state: BudgetState, action_id: str, outcome: Outcome, now: int) -> BudgetState:
        """Take the outcome of an action. The second one for the same action changes nothing."""
        state = self._aged(state, now)
        held = state.held.get(action_id)
        if held is None or held.done_at:
            return state
        if outcome is Outcome.NOT_DONE:
            return replace(state, held=_but(state.held, action_id))
        domains = dict(state.domains)
        for name in held.domains:
            domain = domains.get(name, Domain())
            domains[name] = _succeeded(domain, held, now) if outcome is Outcome.SUCCEEDED else self._failed(domain, now)
        kept = _but(state.held, action_id)
        if held.node:
            kept = {name: one for name, one in kept.items() if not one.done_at or one.node != held.node}
            # Also after a failure: the node may well be cordoned. Its domains pause for that, and are free afterwards.
            of = held.domains if outcome is Outcome.SUCCEEDED else ()
            kept = {**kept, action_id: replace(held, domains=of, done_at=now, until=now + self.rules.out_ms)}
        return replace(state, domains=domains, held=kept)

    def release(self, state: BudgetState, action_id: str) -> BudgetState:
        """Take back the place of a node that is in service again: what `action_id` did was undone."""
        return replace(state, held=_but(state.held, action_id))

    def width(self, state: BudgetState, name: str, now: int) -> int:
        """Return how many repairs of a domain may run at once."""
        return self._aged(state, now).domains.get(name, Domain()).width

    def _refusal(
        self, state: BudgetState, action: RepairAction, impact: Impact, control: Control, now: int
    ) -> tuple[Refusal | None, tuple[ServiceKey, ...]]:
        stopped = control.refuses(now)
        if stopped is not None:
            return Refusal(reason=stopped, retry_at=now + STALE_MS), ()
        if (objected := objection(action, self.policies, now)) is not None:
            return objected, ()
        if impact.unknown is not None:
            return Refusal(reason=Reason.TABLE_UNKNOWN, detail=str(impact.unknown), retry_at=now + RETRY_MS), ()
        excluded = tuple(
            sorted(s for s, n in impact.takes.items() if _left(state, impact, s, n) < max(1, action.min_healthy))
        )
        if excluded and not action.target.is_node:
            have = impact.healthy[excluded[0]]
            detail = f"{excluded[0]} has {have}, {impact.takes[excluded[0]]} would go"
            return Refusal(reason=Reason.LAST_REPLICAS, detail=detail, retry_at=now + RETRY_MS), ()
        out = {held.node for held in state.held.values() if held.node}
        most = max(1, self.nodes * self.rules.node_percent // 100)
        if _cordons(action) and action.target.name not in out and len(out) >= most:
            detail = f"{len(out)} of {self.nodes or 'unknown'} nodes are out, {most} may be"
            return Refusal(reason=Reason.TOO_MANY_NODES, detail=detail, retry_at=now + RETRY_MS), ()
        for name in impact.domains:
            domain = state.domains.get(name, Domain())
            if now < domain.closed_until:
                return Refusal(
                    reason=Reason.BUDGET, detail=f"{name} pauses after a failure", retry_at=domain.closed_until
                ), ()
            if (used := _used(state, name, action)) >= domain.width:
                detail = f"{name}: {used} of {domain.width} under way"
                return Refusal(reason=Reason.BUDGET, detail=detail, retry_at=now + RETRY_MS), ()
        return None, excluded

    def _aged(self, state: BudgetState, now: int) -> BudgetState:
        """Return the state as of `now`: proven successes double, lost actions fail, old ids are forgotten."""
        for action_id, held in state.held.items():
            if now >= held.until and held.done_at:
                state = replace(state, held=_but(state.held, action_id))
            elif now >= held.until:
                lost = held.until
                domains = {name: self._failed(state.domains.get(name, Domain()), lost) for name in held.domains}
                kept = _but(state.held, action_id)
                if held.node:
                    kept[action_id] = replace(held, domains=(), done_at=lost, until=lost + self.rules.out_ms)
                state = replace(state, held=kept, domains={**state.domains, **domains})
            elif held.done_at and held.domains and now >= held.done_at + self.rules.cordoned_ms:
                state = replace(state, held={**state.held, action_id: replace(held, domains=())})
        grown = {name: self._grown(domain, now) for name, domain in state.domains.items()}
        granted = state.granted
        if any(at <= now - _MEMORY_MS for at in granted.values()):
            granted = {name: at for name, at in granted.items() if at > now - _MEMORY_MS}
        return replace(state, domains=grown, granted=granted)

    def _grown(self, domain: Domain, now: int) -> Domain:
        if not domain.proof_from or now < domain.proof_from + self.rules.proven_ms:
            return domain
        width = min(domain.width * 2, self.rules.max_width)
        return replace(domain, width=width, proof_from=0, changed_at=domain.proof_from + self.rules.proven_ms)

    def _failed(self, domain: Domain, now: int) -> Domain:
        pause = min(self.rules.pause_ms * 2 ** min(domain.failures, 10), self.rules.longest_pause_ms)
        return Domain(
            width=max(1, domain.width // 2),
            changed_at=now,
            failures=domain.failures + 1,
            closed_until=max(domain.closed_until, now + pause),
        )


def _succeeded(domain: Domain, held: Held, now: int) -> Domain:
    """A success ends the row of failures; it begins a proof if its repair began under the present width."""
    proves = not domain.proof_from and held.granted_at >= domain.changed_at
    return replace(domain, failures=0, proof_from=now if proves else domain.proof_from)


def _cordons(action: RepairAction) -> bool:
    return action.target.is_node and any(s.do in (Do.CORDON, Do.ISOLATE, Do.DRAIN) for s in action.steps)


def _holding(state: BudgetState, action: RepairAction, impact: Impact, now: int) -> BudgetState:
    granted = {**state.granted, action.id: now}
    if not impact.domains:  # It takes nothing from anybody.
        return replace(state, granted=granted)
    takes = {service: n for service, n in impact.takes.items() if service not in action.excluded}
    node = action.target.name if _cordons(action) else ""
    held = Held(domains=impact.domains, takes=takes, node=node, granted_at=now, until=now + RUN_MS)
    # What gives way keeps its node until there is an outcome: nobody may begin this one.
    kept = {name: replace(one, domains=()) if _gives_way(one, action) else one for name, one in state.held.items()}
    return replace(state, granted=granted, held={**kept, action.id: held})


def _left(state: BudgetState, impact: Impact, service: ServiceKey, takes: int) -> int:
    """Return how many healthy endpoints a service would have left. What is under way is counted in full, although
    the table may show it already: once too careful, never once too few."""
    under_way = sum(held.takes.get(service, 0) for held in state.held.values() if not held.done_at)
    return impact.healthy[service] - under_way - takes


def _used(state: BudgetState, domain: str, by: RepairAction) -> int:
    """Return how many places of a domain are taken for somebody who asks."""
    return sum(domain in held.domains for held in state.held.values() if not _gives_way(held, by))


def _gives_way(held: Held, action: RepairAction) -> bool:
    """Return whether an action comes in the place of one that is over: of the same node, which is out once."""
    return held.done_at > 0 and _cordons(action) and held.node == action.target.name


def _but(held: Mapping[str, Held], action_id: str) -> dict[str, Held]:
    return {name: one for name, one in held.items() if name != action_id}


def _without(state: BudgetState, action_id: str) -> BudgetState:
    return replace(state, waiting={name: a for name, a in state.waiting.items() if name != action_id})
