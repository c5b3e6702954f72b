"""One pass over one `KafkaServiceDiscovery`: observe, decide, act, tell.

A pass begins from nothing but what Kafka, Redis and the API server say, so it may be repeated, cut off, or run by two
controllers at once: every act is the same for all of them. What fails is a condition, and the next pass tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from waypost.controller import conditions
from waypost.controller.cluster import Cluster
from waypost.controller.conditions import Condition
from waypost.controller.counts import Counts
from waypost.controller.discovery import Discovery, read_discovery
from waypost.controller.drift import Step, decide, owned
from waypost.controller.objects import DISCOVERIES, FLINK_DEPLOYMENTS, Images, Part, parts
from waypost.controller.topics import TopicsKept
from waypost.errors import ClusterUnavailable, RegistryUnavailable, SettingsError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass did and found, for logs and metrics. `ready` is None when there was nothing to do."""

    ready: Condition | None = None
    steps: tuple[tuple[str, Step], ...] = ()
    changed: bool = False
    """`ready` is another than before."""


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Makes passes in one namespace. Everything it touches is handed in."""

    cluster: Cluster
    namespace: str
    images: Images
    keep_topics: Callable[[Discovery, frozenset[str]], TopicsKept]
    delete_topics: Callable[[frozenset[str]], None]
    counts: Callable[[str], Counts]
    """Prefix → sums; raises RegistryUnavailable."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(timezone.utc))

    def reconcile(self, name: str) -> Pass:
        """Make one pass. Raises ClusterUnavailable when the API server cannot even be read or told."""
        body = self.cluster.get(DISCOVERIES, self.namespace, name)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return Pass()
        before: Mapping[str, Any] = body.get("status") or {}
        try:
            discovery = read_discovery(body)
        except SettingsError as error:
            return self._tell(body, before, [_accepted(False, "InvalidSpec", str(error))], {}, ())
        if rival := self._rival(discovery):
            return self._tell(body, before, [_accepted(False, "Conflict", rival)], {}, ())

        ours = frozenset(map(str, before.get("createdTopics") or ()))
        topics = self.keep_topics(discovery, ours)
        created = ours | set(topics.created)
        if topics.created:
            # At once: what is not noted is never deleted.
            self.cluster.tell(self.namespace, name, {"createdTopics": sorted(created)})
        steps, told = [], [_accepted(True, "Valid", ""), topics.condition]
        for part in parts(discovery, self.images):
            step, observed, failure = self._keep(discovery, part, may_create=topics.ready)
            steps.append((part.part, step))
            told.append(failure or _of_part(part, step, observed, discovery))
        return self._tell(body, before, told, self._counted(discovery), tuple(steps), created=created)

    def finalize(self, body: Mapping[str, Any]) -> bool:
        """Undo what was made for an object that is being deleted; return whether everything is gone.

        The job ends first, by the Flink operator's own finalizer; then, only if the object says so, go the topics that
        were made for it and that no other object names. Raises ClusterUnavailable and TopicError.
        """
        metadata = body["metadata"]
        gone = True
        try:
            discovery = read_discovery(body)
        except SettingsError:
            # Nothing was made for what never was valid; what an earlier version of it owns, Kubernetes deletes.
            return True
        for part in parts(discovery, self.images):
            observed = self.cluster.get(part.kind, self.namespace, part.name)
            if observed is None or not owned(observed, metadata["uid"]):
                continue
            if not observed["metadata"].get("deletionTimestamp"):
                self.cluster.delete(part.kind, self.namespace, part.name, observed["metadata"]["uid"])
            # The others stop within seconds, by Kubernetes; a job writes to the topics until it is gone.
            gone = gone and part.part != "job"
        if not gone:
            return False
        ours = frozenset(map(str, (body.get("status") or {}).get("createdTopics") or ()))
        if discovery.delete_topics and ours:
            self.delete_topics(ours - self._named_by_others(discovery))
        return True

    # --- one part -----------------------------------------------------------------------------

    def _keep(
        self, discovery: Discovery, part: Part, *, may_create: bool
    ) -> tuple[Step, Mapping[str, Any] | None, Condition | None]:
        step, observed = Step.WAIT, None
        try:
            observed = self.cluster.get(part.kind, self.namespace, part.name)
            if part.body is None:
                if observed is not None and owned(observed, discovery.uid):
                    self.cluster.delete(part.kind, self.namespace, part.name, observed["metadata"]["uid"])
                    return Step.GOING, None, None
                return Step.KEEP, None, None
            step = decide(observed, part.body, may_create=may_create)
            if step in (Step.CREATE, Step.HEAL):
                observed = self.cluster.apply(part.kind, part.body)
                _log.info("%s %s/%s: %s", part.kind.kind, self.namespace, part.name, step.value)
        except ClusterUnavailable as error:
            reason = "ApplyFailed" if step in (Step.CREATE, Step.HEAL) else "NotRead"
            return step, observed, Condition(type=_condition(part), holds=False, reason=reason, message=str(error))
        return step, observed, None

    # --- others of the namespace --------------------------------------------------------------

    def _others(self, discovery: Discovery) -> list[Discovery]:
        others = []
        for body in self.cluster.discoveries(self.namespace):
            try:
                other = read_discovery(body)
            except SettingsError:
                continue
            if other.uid != discovery.uid:
                others.append(other)
        return others

    def _rival(self, discovery: Discovery) -> str:
        """Return why an older object makes this one wrong, "" when none does.

        Two jobs that write the same tables would fence each other off; two in one consumer group would share one
        log's offsets.
        """
        for other in self._others(discovery):
            if (other.created, other.uid) > (discovery.created, discovery.uid):
                continue
            if other.redis_prefix == discovery.redis_prefix:
                return f"{other.name} has redisPrefix {other.redis_prefix} already"
            if other.group_id == discovery.group_id:
                return f"{other.name} has groupID {other.group_id} already"
        return ""

    def _named_by_others(self, discovery: Discovery) -> frozenset[str]:
        from waypost.controller.topics import wanted_topics

        return frozenset(topic.name for other in self._others(discovery) for topic in wanted_topics(other))

    # --- telling ------------------------------------------------------------------------------

    def _counted(self, discovery: Discovery) -> dict[str, Any]:
        try:
            counts = self.counts(discovery.redis_prefix)
        except RegistryUnavailable as error:
            _log.warning("%s: %s", discovery.name, error)
            return {}
        window = counts.last_window_ms
        return {
            "services": counts.services,
            "endpoints": counts.endpoints,
            "protectedServices": counts.protected,
            **({"lastWindow": _rfc3339(datetime.fromtimestamp(window // 1000, timezone.utc))} if window else {}),
        }

    def _tell(
        self,
        body: Mapping[str, Any],
        before: Mapping[str, Any],
        told: list[Condition],
        counted: Mapping[str, Any],
        steps: tuple[tuple[str, Step], ...],
        created: frozenset[str] = frozenset(),
    ) -> Pass:
        metadata, known = body["metadata"], before.get("conditions") or []
        ready = conditions.ready(told)
        generation = metadata.get("generation", 1)
        status = {
            "observedGeneration": generation,
            "conditions": conditions.as_status([*told, ready], known, generation=generation, now=_rfc3339(self.now())),
            **({"createdTopics": sorted(created)} if created else {}),
            **counted,
        }
        if any(before.get(name) != value for name, value in status.items()):
            self.cluster.tell(self.namespace, metadata["name"], status)
        was: Mapping[str, Any] = next((c for c in known if c.get("type") == "Ready"), {})
        return Pass(
            ready=ready, steps=steps, changed=(was.get("status"), was.get("reason")) != (ready.status, ready.reason)
        )


def _accepted(holds: bool, reason: str, message: str) -> Condition:
    return Condition(type="Accepted", holds=holds, reason=reason, message=message)


def _condition(part: Part) -> str:
    return {"job": "JobReady", "witness": "WitnessReady", "mirror": "MirrorReady"}[part.part]


def _of_part(part: Part, step: Step, observed: Mapping[str, Any] | None, discovery: Discovery) -> Condition:
    kind = _condition(part)
    if part.body is None:
        return Condition(type=kind, holds=True, reason="NothingToMirror", message="")
    if step is Step.FOREIGN:
        message = f"{part.kind.kind} {part.name} is not owned by this object; rename or delete it"
        return Condition(type=kind, holds=False, reason="NameTaken", message=message)
    if step is Step.WAIT:
        return Condition(
            type=kind, holds=False, reason="WaitingForTopics", message="it is made when the topics are right"
        )
    if step is Step.GOING:
        return Condition(
            type=kind, holds=False, reason="BeingDeleted", message=f"{part.name} is made anew when it is gone"
        )
    if part.kind == FLINK_DEPLOYMENTS:
        return conditions.job_condition(observed, suspended=discovery.suspended)
    if part.part == "job" and discovery.suspended:
        return Condition(type=kind, holds=False, reason="Suspended")
    return conditions.deployment_condition(kind, observed)


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
