"""Policy documents: YAML or JSON ↔ `PolicySet`.

A document is taken as a whole or not at all, and every problem is named with its path, so that its author sees them
in one go. What is not known is refused: a misspelt `mode` must not leave a policy acting, nor a misspelt
`namespaces` widen it.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from waypost.errors import DecodeError, PolicyError
from waypost.model.names import is_namespace, is_service
from waypost.model.repair_policy import MOST_ATTEMPTS, Guards, Mode, PolicySet, RepairPolicy, Scope, Window
from waypost.model.repair_steps import OF_NODES, OF_SERVICES, PARAMETERS, Do, Step
from waypost.wire.alerts import MAX_LABEL_NAME, MAX_LABEL_VALUE, read_type
from waypost.wire.documents import Reader, read_document
from waypost.wire.fields import as_bool, as_int, as_list, as_object, as_text, bounded, wrong_type
from waypost.wire.repair_action import MAX_STEPS, MAX_VERSION, read_parameter, step_fields
from waypost.wire.words import read_word

MAX_BYTES = 256 * 1024
MAX_POLICIES = 256
MAX_NAMES = 256
MAX_WINDOWS = 64

DAYS: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NONE: tuple[str, ...] = ()

SECONDS = {
    "wait_seconds": ("wait_ms", 0, 3_600),
    "cooldown_seconds": ("cooldown_ms", 10, 86_400),
    "attempts_seconds": ("attempts_ms", 60, 604_800),
    "dwell_seconds": ("dwell_ms", 0, 600),
    "approval_seconds": ("approval_ms", 60, 86_400),
}
"""Times of a policy: name in the document, name in the model, bounds in seconds. No dwell may be longer than the time
an outcome is waited for (`waypost.model.repair_action.RUN_MS`)."""

COUNTS = {"max_attempts": (1, MOST_ATTEMPTS), "min_healthy": (1, 1_000)}

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_VERSION = re.compile(r"[A-Za-z0-9._:+-]{1,64}\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,254}\Z")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_DEFAULT = RepairPolicy(name="", types=frozenset(), steps=())


def decode_policies(document: bytes | str) -> PolicySet:
    """Read a set of policies. Raises PolicyError with all problems."""
    problems: list[tuple[str, str]] = []
    root = Reader.over(read_document(document, MAX_BYTES), "", problems)
    guards = Guards(
        version=root.need("version", "", _matching(_VERSION, f"1 to {MAX_VERSION} of A-Z a-z 0-9 . _ : + -")),
        opt_out_label=root.read("opt_out_label", Guards().opt_out_label, _matching(_LABEL, "a Prometheus label name")),
        protected_namespaces=frozenset(
            root.read("protected_namespaces", tuple(Guards().protected_namespaces), _namespaces)
        ),
        maintenance=tuple(_window(one) for one in root.objects("maintenance", MAX_WINDOWS)),
    )
    root.need("policies", [], as_list)
    policies = tuple(_policy(one, guards) for one in root.objects("policies", MAX_POLICIES))
    names = [policy.name for policy in policies]
    for n, name in enumerate(names):
        if name and name in names[:n]:
            problems.append((f"policies[{n}].name", f"{name} is the name of another policy"))
    root.end()
    if problems:
        raise PolicyError(sorted(set(problems)))
    return PolicySet(policies=policies, guards=guards)


def _policy(one: Reader, guards: Guards) -> RepairPolicy:
    name = one.need("name", "", _matching(_NAME, "1 to 63 of a-z 0-9 -"))
    nothing: dict[str, Any] = {}
    match = Reader.over(one.need("match", nothing, as_object), one.at("match"), one.problems)
    scope = match.read("scope", Scope.SERVICE, lambda field, item: read_word(Scope, {field: item}, field))
    types = match.need("types", NONE, _types)
    namespaces, nodes = _names_by_scope(match, scope)
    labels = match.read("labels", nothing, _labels)
    match.end()
    times = {
        field: one.read(told, getattr(_DEFAULT, field) // 1_000, _number(low, high)) * 1_000
        for told, (field, low, high) in SECONDS.items()
    }
    counts = {field: one.read(field, getattr(_DEFAULT, field), _number(*bounds)) for field, bounds in COUNTS.items()}
    return RepairPolicy(
        name=name,
        types=frozenset(types),
        scope=scope,
        namespaces=namespaces,
        nodes=nodes,
        labels=labels,
        steps=_steps(one, scope),
        mode=one.read("mode", Mode.SHADOW, lambda field, item: read_word(Mode, {field: item}, field)),
        undo=one.read("undo", False, as_bool),
        guards=guards,
        **times,
        **counts,
    )


def _names_by_scope(match: Reader, scope: Scope) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the patterns of namespaces and of nodes. One that is empty or missing would mean all or nothing; which
    of the two is not ours to guess."""
    wanted, other = ("namespaces", "nodes") if scope is Scope.SERVICE else ("nodes", "namespaces")
    if match.get(other) is not None:
        match.problem(other, f"is not for scope {scope.value}")
    how = _patterns(is_namespace) if scope is Scope.SERVICE else _patterns(is_service)
    found = match.need(wanted, NONE, how)
    return (found, ()) if scope is Scope.SERVICE else ((), found)


def _steps(one: Reader, scope: Scope) -> tuple[Step, ...]:
    one.need("steps", [], as_list)
    allowed = OF_SERVICES if scope is Scope.SERVICE else OF_NODES
    found = []
    for reader in one.objects("steps", MAX_STEPS):
        do = reader.need("do", None, lambda field, item: read_word(Do, {field: item}, field))
        if do is None:
            reader.value = {}
            continue
        if do not in allowed:
            words = ", ".join(sorted(word.value for word in allowed))
            reader.problem("do", f"{do.value} is not for scope {scope.value}; there are {words}")
        found.append(Step(do, {name: _parameter(reader, name, do) for name in PARAMETERS[do]}))
    if one.value.get("steps") == []:
        one.problem("steps", "is empty")
    return tuple(found)


def _parameter(reader: Reader, name: str, do: Do) -> int | str:
    try:
        return read_parameter(name, reader.get(name), PARAMETERS[do][name])
    except DecodeError as error:
        reader.problem(name, error.detail)
        return 0


def _window(one: Reader) -> Window:
    days = one.read("days", DAYS, _days)
    return Window(
        days=frozenset(DAYS.index(day) for day in days),
        begin=one.need("from", 0, _clock),
        end=one.need("to", 0, _clock),
    )


def _text(name: str, item: Any) -> str:
    if type(item) is not str:
        raise wrong_type(name, "a text", item)
    return item


def _matching(pattern: re.Pattern[str], told: str) -> Any:
    def read(name: str, item: Any) -> str:
        if not pattern.match(_text(name, item)):
            raise DecodeError("bad-policy", f"must be {told}")
        return str(item)

    return read


def _number(low: int, high: int) -> Any:
    return lambda name, item: bounded(name, as_int(name, item), low, high, "bad-policy")


def _list(name: str, item: Any, most: int = MAX_NAMES) -> list[str]:
    found = [_text(name, one) for one in as_list(name, item)]
    if not 1 <= len(found) <= most:
        raise DecodeError("bad-policy", f"must have 1 to {most} entries")
    return found


def _types(name: str, item: Any) -> tuple[str, ...]:
    return tuple(read_type(one) for one in _list(name, item))


def _namespaces(name: str, item: Any) -> tuple[str, ...]:
    found = tuple(_text(name, one) for one in as_list(name, item))
    if len(found) > MAX_NAMES or not all(is_namespace(one) for one in found):
        raise DecodeError("bad-policy", f"must be at most {MAX_NAMES} namespaces, RFC 1123 labels")
    return found


def _patterns(is_name: Any) -> Any:
    def read(name: str, item: Any) -> tuple[str, ...]:
        for one in _list(name, item):
            # What is before the `*` must be able to begin a name: `a-` does, so it is judged with a sign after it.
            if not is_name(one.removesuffix("*") + "0" * one.endswith("*")):
                raise DecodeError("bad-policy", f"{one[:64]!r} is neither a name nor the beginning of one with `*`")
        return tuple(item)

    return read


def _labels(name: str, item: Any) -> dict[str, str]:
    found = as_object(name, item)
    if len(found) > MAX_NAMES:
        raise DecodeError("bad-policy", f"must have at most {MAX_NAMES} entries")
    for key, value in found.items():
        as_text(f"a name in {name}", key, MAX_LABEL_NAME)
        as_text(f"the value of {key}", value, MAX_LABEL_VALUE)
    return found


def _days(name: str, item: Any) -> tuple[str, ...]:
    found = tuple(_list(name, item, len(DAYS)))
    if not set(found) <= set(DAYS):
        raise DecodeError("bad-policy", f"must be of {', '.join(DAYS)}")
    return found


def _clock(name: str, item: Any) -> int:
    found = _CLOCK.match(_text(name, item))
    if found is None:
        raise DecodeError("bad-policy", "must be HH:MM, UTC")
    return int(found[1]) * 60 + int(found[2])


def encode_policies(policies: PolicySet) -> bytes:
    """Write a set of policies as JSON, everything spelled out."""
    guards = policies.guards
    return orjson.dumps(
        {
            "version": guards.version,
            "opt_out_label": guards.opt_out_label,
            "protected_namespaces": sorted(guards.protected_namespaces),
            "maintenance": [
                {"days": [DAYS[n] for n in sorted(w.days)], "from": _told(w.begin), "to": _told(w.end)}
                for w in guards.maintenance
            ],
            "policies": [_policy_fields(policy) for policy in policies.policies],
        }
    )


def _told(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _policy_fields(policy: RepairPolicy) -> dict[str, Any]:
    names = {"namespaces": policy.namespaces} if policy.scope is Scope.SERVICE else {"nodes": policy.nodes}
    return {
        "name": policy.name,
        "match": {
            "scope": policy.scope.value,
            "types": sorted(policy.types),
            **names,
            "labels": dict(sorted(policy.labels.items())),
        },
        "steps": [step_fields(step) for step in policy.steps],
        "mode": policy.mode.value,
        **{told: getattr(policy, field) // 1_000 for told, (field, _, _) in SECONDS.items()},
        **{field: getattr(policy, field) for field in COUNTS},
        "undo": policy.undo,
    }
