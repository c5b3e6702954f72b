"""Why nothing is done: every reason there is, in one list that documents, metrics and records share.

A refusal is a value, it is recorded, and it names who can change it. Those that *wait* are asked again by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Reason(str, Enum):
    """One reason. Slugs are stable: people alert on them."""

    KILL_SWITCH = "kill-switch"
    CONFIG_UNKNOWN = "config-unknown"
    NO_TARGET = "no-target"
    NO_NAMESPACE = "no-namespace"
    RESOLVED = "resolved"
    STALE = "stale"
    NOT_REPEATED = "not-repeated"
    TOO_MANY_ALERTS = "too-many-alerts"
    NO_POLICY = "no-policy"
    PROTECTED_NAMESPACE = "protected-namespace"
    OPTED_OUT = "opted-out"
    MAINTENANCE = "maintenance"
    PART_OF_INCIDENT = "part-of-incident"
    IN_FLIGHT = "in-flight"
    ALREADY_REPAIRED = "already-repaired"
    TARGET_BUSY = "target-busy"
    HUMAN_NEEDED = "human-needed"
    COOLDOWN = "cooldown"
    WAITING = "waiting"
    NO_POD = "no-pod"
    SHADOW = "shadow"
    NEEDS_APPROVAL = "needs-approval"
    APPROVAL_EXPIRED = "approval-expired"
    CANCELLED = "cancelled"
    ALREADY_GRANTED = "already-granted"
    TABLE_UNKNOWN = "table-unknown"
    LAST_REPLICAS = "last-replicas"
    TOO_MANY_NODES = "too-many-nodes"
    BUDGET = "budget"
    QUEUE_FULL = "queue-full"
    EXPIRED = "expired"


MEANING: Mapping[Reason, str] = {
    Reason.KILL_SWITCH: "an operator has switched repairs off",
    Reason.CONFIG_UNKNOWN: "the configuration could not be read within the last 10 s, so nobody knows whether repairs "
    "are switched off",
    Reason.NO_TARGET: "the alert names neither a service nor a node, or a namespace called `node`",
    Reason.NO_NAMESPACE: "the alert names a service without a namespace; that is never taken for all of them",
    Reason.RESOLVED: "the alert is over",
    Reason.STALE: "the alert began before one that is known for the same fault, or that was forgotten since",
    Reason.NOT_REPEATED: "nobody has repeated the alert for 12 hours, so its end may have been lost; it counts again "
    "when it is repeated",
    Reason.TOO_MANY_ALERTS: "the target has more unfinished alerts than are kept",
    Reason.NO_POLICY: "no policy is about this alert",
    Reason.PROTECTED_NAMESPACE: "the namespace is in `protected_namespaces`",
    Reason.OPTED_OUT: "the target carries the opt-out label",
    Reason.MAINTENANCE: "a maintenance window is open: people are at work",
    Reason.PART_OF_INCIDENT: "the alert is part of an incident about a node, zone or version, which is decided instead",
    Reason.IN_FLIGHT: "this very repair is under way",
    Reason.ALREADY_REPAIRED: "this fault was repaired; only new evidence (a new `startsAt`) leads to another repair",
    Reason.TARGET_BUSY: "another repair of the same target is under way",
    Reason.HUMAN_NEEDED: "the target had its attempts",
    Reason.COOLDOWN: "the last repair of the target is too recent",
    Reason.WAITING: "the alert has to fire for a while first (`wait_seconds`)",
    Reason.NO_POD: "the policy evicts or isolates a pod, and the alert names none",
    Reason.SHADOW: "the policy only shows what it would do",
    Reason.NEEDS_APPROVAL: "a person has to approve first",
    Reason.APPROVAL_EXPIRED: "nobody approved in time",
    Reason.CANCELLED: "the alert ended while the repair was waiting",
    Reason.ALREADY_GRANTED: "an action with this id was granted before; no id acts twice",
    Reason.TABLE_UNKNOWN: "nothing is known of the service's table, so nobody can tell how many replicas are left",
    Reason.LAST_REPLICAS: "fewer healthy replicas than `min_healthy` would be left",
    Reason.TOO_MANY_NODES: "more nodes than `node_percent` would be out of service by repairs",
    Reason.BUDGET: "a failure domain has as many repairs under way as it may, or has just seen one fail",
    Reason.QUEUE_FULL: "too many repairs wait for the budget",
    Reason.EXPIRED: "the repair waited too long for the budget, or its outcome never came",
}

WHO: Mapping[Reason, str] = {
    Reason.KILL_SWITCH: "an operator",
    Reason.CONFIG_UNKNOWN: "whoever runs Kafka or the syncer",
    Reason.NO_TARGET: "whoever writes the alert rule",
    Reason.NO_NAMESPACE: "whoever writes the alert rule",
    Reason.NOT_REPEATED: "whoever runs Alertmanager: `send_resolved`, and a `repeat_interval` below 12 h",
    Reason.TOO_MANY_ALERTS: "whoever writes the alert rule",
    Reason.NO_POLICY: "whoever writes policies",
    Reason.PROTECTED_NAMESPACE: "whoever writes policies",
    Reason.OPTED_OUT: "the owner of the service",
    Reason.HUMAN_NEEDED: "a person: repair it, then resume the target",
    Reason.NO_POD: "whoever writes the alert rule or the policy",
    Reason.SHADOW: "whoever writes policies, by `mode: act`",
    Reason.NEEDS_APPROVAL: "a person",
    Reason.APPROVAL_EXPIRED: "a person; the next alert asks again",
    Reason.TABLE_UNKNOWN: "the service's owner, by registering it",
    Reason.LAST_REPLICAS: "a person, when it lasts: more replicas are needed",
    Reason.TOO_MANY_NODES: "a person: so many failed nodes are rarely the nodes' fault",
}
"""Who can change it. Not here: nobody has to."""

WAITS = frozenset(
    {
        Reason.KILL_SWITCH,
        Reason.CONFIG_UNKNOWN,
        Reason.MAINTENANCE,
        Reason.TARGET_BUSY,
        Reason.HUMAN_NEEDED,
        Reason.COOLDOWN,
        Reason.WAITING,
        Reason.NEEDS_APPROVAL,
        Reason.TABLE_UNKNOWN,
        Reason.LAST_REPLICAS,
        Reason.TOO_MANY_NODES,
        Reason.BUDGET,
    }
)
"""Asked again at `Refusal.retry_at` while the alert fires; the others wait for news."""
