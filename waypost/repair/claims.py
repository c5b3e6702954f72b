"""The ledger on the object itself: which repairs have changed a workload, and what each was about.

It is written with the change, or before it, and at the version that was read. So whoever carries out the same step
again, after a restore or beside us, finds that it was done; the state of a job is a copy that may be behind.

    waypost.io/repairs: "<action id>.<step>=<what> <action id>.<step>=<what> …"     the newest last
"""

from __future__ import annotations

from collections.abc import Mapping

CLAIMS = "waypost.io/repairs"
MOST = 32
"""Claims on one object. A replay that comes after 32 other repairs of the workload is older than any checkpoint that a
job resumes from; each costs about 75 bytes."""

RESTARTED = "waypost.io/restarted-by"
"""On the template of a workload's pods: what makes them new."""

CORDONED_BY = "waypost.io/cordoned-by"
"""On a node that we cordoned: the action. What is cordoned without it is somebody else's."""
CORDONED_FOR = "waypost.io/cordoned-for"
"""On the same node: the faults, as `<fingerprint>@<startsAt>`, the newest of each alert. It stays when a person
uncordons."""
SCHEDULABLE_SINCE = "waypost.io/schedulable-since"
"""On a node that a person uncordoned after us: since when, epoch ms. A fault that began before is no new evidence."""


def claim_of(annotations: Mapping[str, str], claim: str) -> str | None:
    """Return what a claim is about, None when there is none."""
    for one in annotations.get(CLAIMS, "").split():
        name, _, what = one.partition("=")
        if name == claim:
            return what
    return None


def with_fault(annotations: Mapping[str, str], fault: str) -> str:
    """Return the faults that a node is cordoned for, with one more: in the place of an older one of the same alert."""
    fingerprint = fault.partition("@")[0]
    others = [one for one in annotations.get(CORDONED_FOR, "").split() if one.partition("@")[0] != fingerprint]
    return " ".join([*others[-(MOST - 1) :], fault])


def with_claim(annotations: Mapping[str, str], claim: str, what: str) -> dict[str, str]:
    """Return the annotation with one more claim. `what` has no spaces."""
    return {CLAIMS: " ".join([*annotations.get(CLAIMS, "").split()[-(MOST - 1) :], f"{claim}={what}"])}
