"""One instance that the agent looks after: who it is, what is registered of it, and how it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from waypost.agent.checks import TCP, Check, check_document, read_check
from waypost.client.registry.instance import Instance, checked
from waypost.errors import DecodeError
from waypost.model.events import Attributes
from waypost.wire.attributes import attribute_fields, read_attributes

MAX_BYTES = 64 * 1024
"""Of one document; metadata alone has 8 KiB at most."""

FIELDS = frozenset({"address", "port", "weight", "zone", "node", "metadata", "lease_seconds", "check"})


class Who(NamedTuple):
    """A service and an instance of it; the agent's namespace goes without saying."""

    service: str
    instance: str

    def __str__(self) -> str:
        return f"{self.service}/{self.instance}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """See the module."""

    who: Who
    attributes: Attributes
    check: Check = TCP

    @property
    def instance(self) -> Instance:
        """Return it as probes and callers know instances."""
        said = self.attributes
        return Instance(
            id=self.who.instance,
            name=self.who.service,
            address=said.address,
            port=said.port,
            metadata=said.metadata,
            weight=said.weight,
            zone=said.zone,
        )


def read_member(who: Who, doc: dict[str, Any], *, node: str = "", zone: str = "") -> Member:
    """Read what was said of an instance; `node` and `zone` are what it has when it does not say.

    Raises DecodeError or InvalidInstance, with the reason the job would give.
    """
    unknown = sorted(doc.keys() - FIELDS)
    if unknown:
        raise DecodeError("unknown-field", f"{', '.join(unknown)}: an instance has {', '.join(sorted(FIELDS))}")
    attributes = read_attributes({**doc, "node": doc.get("node") or node, "zone": doc.get("zone") or zone})
    member = Member(who=who, attributes=attributes, check=TCP if doc.get("check") is None else read_check(doc["check"]))
    checked(member.instance)
    return member


def member_document(member: Member) -> dict[str, Any]:
    """Write it so that `read_member` gives it back."""
    return {**attribute_fields(member.attributes), "check": check_document(member.check)}
