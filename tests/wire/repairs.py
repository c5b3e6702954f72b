"""Strategies of alerts, actions and policies: everything that may stand in a record."""

from __future__ import annotations

from hypothesis import strategies as st

from waypost.model.alert import Alert, AlertStatus, Target
from waypost.model.names import ServiceKey
from waypost.model.repair_action import RepairAction
from waypost.model.repair_policy import Guards, Mode, PolicySet, RepairPolicy, Scope, Window
from waypost.model.repair_steps import OF_NODES, OF_SERVICES, PARAMETERS, Do, Parameter, Step

TIMES = st.integers(0, 2**53 - 1)
LABELS = st.sampled_from(["a", "shop", "kube-system", "x1", "payments"])
SERVICES = st.sampled_from(["payments", "a.b", "webhook-2"])
NODES = st.sampled_from(["n1", "ip-10-0-0-1.internal"])
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)
TYPES = st.sampled_from(["PodCrash", "NodeFailure", "Mine_2"])
FINGERPRINTS = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True)
IDS = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)

ALERTS = st.builds(
    Alert,
    type=TYPES,
    status=st.sampled_from(AlertStatus),
    fingerprint=FINGERPRINTS,
    starts_at=TIMES,
    service=st.just("") | SERVICES,
    namespace=st.just("") | LABELS,
    node=st.just("") | NODES,
    pod=st.just("") | SERVICES,
    labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
    annotations=st.dictionaries(TEXTS, TEXTS, max_size=3),
)
TARGETS = st.builds(Target, LABELS, SERVICES) | st.builds(Target, st.just("node"), NODES)


def _value(parameter: Parameter) -> st.SearchStrategy[int | str]:
    if parameter.is_number:
        return st.integers(parameter.low, parameter.high)
    if "https?" in parameter.pattern:
        return st.just("https://hooks.example.com/a?b=c")
    if "deployment" in parameter.pattern:
        return st.sampled_from(["", "deployment/payments"])
    return st.sampled_from(parameter.pattern.split("|"))


def steps(allowed: frozenset[Do]) -> st.SearchStrategy[Step]:
    return st.sampled_from(sorted(allowed)).flatmap(
        lambda do: st.builds(
            Step, st.just(do), st.fixed_dictionaries({n: _value(p) for n, p in PARAMETERS[do].items()})
        )
    )


ACTIONS = st.builds(
    RepairAction,
    id=IDS,
    target=TARGETS,
    type=TYPES,
    fingerprint=FINGERPRINTS,
    starts_at=TIMES,
    attempt=st.integers(1, 9),
    policy=LABELS,
    policy_version=LABELS,
    steps=st.lists(steps(frozenset(Do)), min_size=1, max_size=3).map(tuple),
    node=st.just("") | NODES,
    pod=st.just("") | SERVICES,
    dwell_ms=TIMES,
    cooldown_ms=TIMES,
    min_healthy=st.integers(1, 9),
    undo=st.booleans(),
    excluded=st.lists(st.builds(ServiceKey, LABELS, SERVICES), max_size=2).map(tuple),
    undoes=st.just("") | IDS,
    decided_at=TIMES,
    granted_at=TIMES,
)

GUARDS = st.builds(
    Guards,
    version=st.from_regex(r"[A-Za-z0-9._:+-]{1,10}", fullmatch=True),
    opt_out_label=st.sampled_from(["waypost_repair", "team_x"]),
    protected_namespaces=st.frozensets(LABELS, max_size=2),
    maintenance=st.lists(
        st.builds(
            Window,
            days=st.frozensets(st.integers(0, 6), min_size=1),
            begin=st.integers(0, 1439),
            end=st.integers(0, 1439),
        ),
        max_size=2,
    ).map(tuple),
)


def _seconds(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high).map(lambda s: s * 1_000)


def _policies(guards: Guards) -> st.SearchStrategy[RepairPolicy]:
    common = {
        "types": st.frozensets(TYPES, min_size=1),
        "labels": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "mode": st.sampled_from(Mode),
        "wait_ms": _seconds(0, 3_600),
        "cooldown_ms": _seconds(10, 86_400),
        "attempts_ms": _seconds(60, 604_800),
        "dwell_ms": _seconds(0, 600),
        "approval_ms": _seconds(60, 86_400),
        "max_attempts": st.integers(1, 100),
        "min_healthy": st.integers(1, 1_000),
        "undo": st.booleans(),
        "guards": st.just(guards),
    }
    name = st.from_regex(r"[a-z0-9](?:[-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
    patterns = st.lists(st.sampled_from(["*", "shop", "team-*"]), min_size=1, max_size=2).map(tuple)
    some = {scope: st.lists(steps(a), min_size=1, max_size=3).map(tuple) for scope, a in (
        (Scope.SERVICE, OF_SERVICES), (Scope.NODE, OF_NODES)
    )}  # fmt: skip
    return st.builds(RepairPolicy, name=name, namespaces=patterns, steps=some[Scope.SERVICE], **common) | st.builds(
        RepairPolicy, name=name, nodes=patterns, scope=st.just(Scope.NODE), steps=some[Scope.NODE], **common
    )


POLICY_SETS = GUARDS.flatmap(
    lambda guards: st.builds(
        PolicySet,
        policies=st.lists(_policies(guards), max_size=3, unique_by=lambda p: p.name).map(tuple),
        guards=st.just(guards),
    )
)
