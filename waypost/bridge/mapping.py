"""From Alertmanager's labels to an alert's type and names, as data.

The first rule whose labels are all on the alert gives the type, so that `KubePodCrashLooping` of somebody's rule book
becomes `PodCrash` without touching the rule. An alert that no rule knows has the type that its label `waypost_type`
says, else its `alertname`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from waypost.errors import DecodeError, PolicyError, SettingsError
from waypost.model.alert import NODE_FAILURE, POD_CRASH
from waypost.wire.alerts import read_type
from waypost.wire.documents import Reader, read_document
from waypost.wire.fields import as_bool, as_list, as_object, as_text

MAX_BYTES = 256 * 1024
MAX_RULES = 1_000
MAX_NAMES = 16

TYPE_LABELS = ("waypost_type", "alertname")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Alerts with all of these labels are of this type. `about_node`: they are about their node, whatever service the
    label of an exporter names."""

    labels: Mapping[str, str]
    type: str
    about_node: bool = False

    def covers(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(name) == value for name, value in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Which labels name what; the first that the alert has counts. `job` and `instance` are not here: they are about
    who was scraped, and often that is an exporter."""

    service: tuple[str, ...] = ("waypost_service", "service")
    namespace: tuple[str, ...] = ("namespace",)
    node: tuple[str, ...] = ("node",)
    pod: tuple[str, ...] = ("pod",)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMapping:
    """Rules for types, and labels for names."""

    rules: tuple[Rule, ...] = ()
    names: Names = Names()

    def rule_for(self, labels: Mapping[str, str]) -> Rule | None:
        return next((rule for rule in self.rules if rule.covers(labels)), None)


DEFAULT_MAPPING = LabelMapping(
    rules=(
        Rule(labels={"alertname": "KubePodCrashLooping"}, type=POD_CRASH),
        Rule(labels={"alertname": "KubeNodeNotReady"}, type=NODE_FAILURE, about_node=True),
        Rule(labels={"alertname": "KubeNodeUnreachable"}, type=NODE_FAILURE, about_node=True),
        Rule(labels={"alertname": NODE_FAILURE}, type=NODE_FAILURE, about_node=True),
    )
)
"""The names of the Kubernetes mixin, and our own."""


def first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Return the first of these labels that is there and not empty, "" when none is."""
    return next((labels[name] for name in names if labels.get(name)), "")


def decode_mapping(document: bytes | str) -> LabelMapping:
    """Read a mapping, YAML or JSON. Raises SettingsError with all problems."""
    problems: list[tuple[str, str]] = []
    try:
        root = Reader.over(read_document(document, MAX_BYTES), "", problems)
    except PolicyError as error:
        raise SettingsError(f"the mapping is refused: {error.detail}") from error
    rules = tuple(
        Rule(
            labels=one.need("labels", dict[str, str](), _labels),
            type=one.need("type", "", lambda _, item: read_type(item)),
            about_node=one.read("about_node", False, as_bool),
        )
        for one in root.objects("rules", MAX_RULES)
    )
    empty: dict[str, Any] = {}
    told = Reader.over(root.read("names", empty, as_object), "names", problems)
    names = Names(**{item.name: told.read(item.name, getattr(Names(), item.name), _names) for item in fields(Names)})
    told.end()
    root.end()
    if problems:
        raise SettingsError("the mapping is refused: " + "; ".join(f"{path}: {what}" for path, what in problems))
    return LabelMapping(rules=rules, names=names)


def _labels(name: str, item: Any) -> dict[str, str]:
    found = as_object(name, item)
    if not found:
        raise DecodeError("bad-mapping", "is empty, and would cover every alert")
    return {as_text(name, key, 256): as_text(name, value, 4_096) for key, value in found.items()}


def _names(name: str, item: Any) -> tuple[str, ...]:
    found = tuple(as_text(name, one, 256) for one in as_list(name, item))
    if not 1 <= len(found) <= MAX_NAMES:
        raise DecodeError("bad-mapping", f"must have 1 to {MAX_NAMES} entries")
    return found
