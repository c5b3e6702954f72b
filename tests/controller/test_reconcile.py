"""Passes on a cluster made of dictionaries: what is made, kept, told and undone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.controller.cluster_in_memory import ClusterInMemory
from tests.controller.discoveries import a_body
from waypost.controller.conditions import Condition
from waypost.controller.counts import Counts
from waypost.controller.discovery import Discovery
from waypost.controller.drift import Step
from waypost.controller.objects import DEPLOYMENTS, DISCOVERIES, FLINK_DEPLOYMENTS, Images
from waypost.controller.reconcile import Reconciler
from waypost.controller.topics import TopicsKept, wanted_topics
from waypost.errors import ClusterUnavailable, RegistryUnavailable

T0 = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
RIGHT = Condition(type="TopicsReady", holds=True, reason="AsTheyShouldBe")
COUNTS = Counts(services=2, endpoints=5, last_window_ms=1_795_000_000_000)
UNKNOWN = Condition(type="TopicsReady", holds=None, reason="KafkaUnavailable", message="nobody answers")


@dataclass
class World:
    """A cluster, a Kafka that is a set of names, tables that are a number, and a clock."""

    cluster: ClusterInMemory = field(default_factory=ClusterInMemory)
    topics: set[str] = field(default_factory=set)
    kafka_is_up: bool = True
    counts: Counts | None = COUNTS
    now: datetime = T0

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(
            cluster=self.cluster,
            namespace="waypost",
            images=Images(waypost="waypost:1", flink="waypost-flink:1"),
            keep_topics=self._keep,
            delete_topics=self._delete,
            counts=self._counts,
            now=lambda: self.now,
        )

    def put(self, *arguments: Any, **spec: Any) -> dict[str, Any]:
        return self.cluster.put(DISCOVERIES, a_body(*arguments, **spec))

    def status(self, name: str = "shop") -> dict[str, Any]:
        body = self.cluster.get(DISCOVERIES, "waypost", name)
        assert body is not None
        return dict(body.get("status") or {})

    def condition(self, kind: str, name: str = "shop") -> dict[str, Any]:
        [found] = [c for c in self.status(name)["conditions"] if c["type"] == kind]
        return dict(found)

    def play_others(self) -> None:
        """Let the Flink operator run its job, and Kubernetes its pods."""
        for (plural, _, _), body in self.cluster.objects.items():
            generation = body["metadata"].get("generation", 1)
            if plural == FLINK_DEPLOYMENTS.plural:
                body["status"] = {"observedGeneration": generation, "jobStatus": {"state": "RUNNING"}}
            if plural == DEPLOYMENTS.plural:
                count = body["spec"]["replicas"]
                body["status"] = {
                    "observedGeneration": generation,
                    "updatedReplicas": count,
                    "availableReplicas": count,
                }

    def names(self) -> set[str]:
        return {name for plural, _, name in self.cluster.objects if plural != DISCOVERIES.plural}

    def _keep(self, discovery: Discovery, ours: frozenset[str]) -> TopicsKept:
        if not self.kafka_is_up:
            return TopicsKept(condition=UNKNOWN)
        missing = {topic.name for topic in wanted_topics(discovery)} - self.topics
        self.topics |= missing
        return TopicsKept(condition=RIGHT, created=tuple(sorted(missing)))

    def _delete(self, names: frozenset[str]) -> None:
        self.topics -= names

    def _counts(self, prefix: str) -> Counts:
        if self.counts is None:
            raise RegistryUnavailable("Redis is away")
        return self.counts


def test_everything_is_made_and_then_ready() -> None:
    world = World()
    world.put(namespaceSelector={"matchNames": ["shop"]})

    first = world.reconciler.reconcile("shop")

    assert dict(first.steps) == {"job": Step.CREATE, "witness": Step.CREATE, "mirror": Step.CREATE}
    assert world.names() == {"shop-route-table", "shop-witness", "shop-mirror"}
    assert world.condition("Ready")["status"] != "True"

    world.play_others()
    second = world.reconciler.reconcile("shop")

    assert second.changed
    assert world.condition("Ready")["status"] == "True"
    status = world.status()
    assert (status["services"], status["endpoints"], status["observedGeneration"]) == (2, 5, 1)
    assert status["lastWindow"] == "2026-11-18T11:06:40Z"
    assert set(status["createdTopics"]) == world.topics


def test_for_development_the_job_is_a_pod_and_needs_no_operator() -> None:
    world = World()
    world.put(job={"target": "flink-run"})

    world.reconciler.reconcile("shop")

    assert {plural for plural, _, name in world.cluster.objects if name == "shop-route-table"} == {"deployments"}
    assert world.condition("JobReady")["status"] != "True"
    world.play_others()
    world.reconciler.reconcile("shop")
    assert world.condition("JobReady")["status"] == "True"
    assert world.condition("Ready")["status"] == "True"


def test_for_development_a_suspended_job_has_no_pod_and_is_not_ready() -> None:
    world = World()
    body = world.put(job={"target": "flink-run"})
    world.reconciler.reconcile("shop")
    body["spec"]["job"]["state"] = "suspended"

    world.reconciler.reconcile("shop")
    world.play_others()
    world.reconciler.reconcile("shop")

    assert world.cluster.objects["deployments", "waypost", "shop-route-table"]["spec"]["replicas"] == 0
    assert world.condition("JobReady")["reason"] == "Suspended"
    assert world.condition("Ready")["status"] == "False"


@pytest.mark.parametrize("target", ["operator", "flink-run"])
def test_a_pass_over_a_world_that_is_right_writes_nothing(target: str) -> None:
    world = World()
    world.put(job={"target": target})
    world.reconciler.reconcile("shop")
    world.play_others()
    world.reconciler.reconcile("shop")
    world.cluster.writes.clear()
    world.now += timedelta(hours=1)

    again = world.reconciler.reconcile("shop")

    assert world.cluster.writes == []
    assert not again.changed


def test_two_controllers_at_once_do_what_one_does() -> None:
    world = World()
    world.put()
    other = World(cluster=world.cluster, topics=world.topics)

    for reconciler in (world.reconciler, other.reconciler, world.reconciler, other.reconciler):
        reconciler.reconcile("shop")

    applied = [write for write in world.cluster.writes if write[0] == "apply"]
    assert sorted(applied) == [("apply", "shop-route-table"), ("apply", "shop-witness")]


@pytest.mark.parametrize("gone", ["shop-route-table", "shop-witness"])
def test_what_somebody_deleted_is_made_again(gone: str) -> None:
    world = World()
    world.put()
    world.reconciler.reconcile("shop")
    [key] = [key for key in world.cluster.objects if key[2] == gone]
    del world.cluster.objects[key]

    world.reconciler.reconcile("shop")

    assert gone in world.names()


def test_what_somebody_changed_is_put_right() -> None:
    world = World()
    world.put()
    world.reconciler.reconcile("shop")
    world.cluster.objects["flinkdeployments", "waypost", "shop-route-table"]["spec"]["job"]["state"] = "suspended"

    done = world.reconciler.reconcile("shop")

    assert dict(done.steps)["job"] is Step.HEAL
    body = world.cluster.get(FLINK_DEPLOYMENTS, "waypost", "shop-route-table")
    assert body
    assert body["spec"]["job"]["state"] == "running"


def test_a_mirror_that_is_no_longer_asked_for_goes() -> None:
    world = World()
    body = world.put(namespaceSelector={"matchNames": ["shop"]})
    world.reconciler.reconcile("shop")
    assert "shop-mirror" in world.names()
    body["spec"]["namespaceSelector"] = {}

    world.reconciler.reconcile("shop")

    assert "shop-mirror" not in world.names()
    assert world.condition("MirrorReady")["reason"] == "NothingToMirror"


def test_somebody_elses_object_of_that_name_is_left_alone() -> None:
    world = World()
    world.put()
    theirs = {"metadata": {"namespace": "waypost", "name": "shop-witness", "uid": "theirs"}, "spec": {"replicas": 9}}
    world.cluster.put(DEPLOYMENTS, theirs)

    world.reconciler.reconcile("shop")

    assert world.cluster.get(DEPLOYMENTS, "waypost", "shop-witness") == theirs
    assert world.condition("WitnessReady")["reason"] == "NameTaken"
    assert world.condition("Ready")["status"] == "False"


def test_without_kafka_nothing_new_is_made_and_what_is_there_is_kept() -> None:
    world = World(kafka_is_up=False)
    world.put()

    world.reconciler.reconcile("shop")

    assert world.names() == set()
    assert world.condition("JobReady")["reason"] == "WaitingForTopics"

    world.kafka_is_up = True
    world.reconciler.reconcile("shop")
    world.kafka_is_up = False
    world.cluster.objects["deployments", "waypost", "shop-witness"]["spec"]["replicas"] = 0
    world.reconciler.reconcile("shop")

    assert world.cluster.objects["deployments", "waypost", "shop-witness"]["spec"]["replicas"] == 2


def test_counts_stay_while_redis_is_away() -> None:
    world = World()
    world.put()
    world.reconciler.reconcile("shop")
    world.counts = None

    world.reconciler.reconcile("shop")

    assert world.status()["endpoints"] == 5


def test_an_object_that_an_older_schema_let_in_is_told_what_is_wrong() -> None:
    world = World()
    world.put(windowSize="1s")

    world.reconciler.reconcile("shop")

    assert world.names() == set()
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
    assert "spec.windowSize" in accepted["message"]


@pytest.mark.parametrize(("same", "other"), [("redisPrefix", {"groupID": "b"}), ("groupID", {"redisPrefix": "b:"})])
def test_the_younger_of_two_that_cannot_be_together_waits(same: str, other: dict[str, str]) -> None:
    world = World()
    world.put("old", uid="b", created="2026-11-22T10:00:00Z")
    world.put("young", uid="a", created="2026-11-22T10:00:01Z", **other)

    for name in ("young", "old"):
        world.reconciler.reconcile(name)

    assert world.condition("Accepted", "old")["status"] == "True"
    assert world.condition("Accepted", "young")["reason"] == "Conflict"
    assert f"old has {same}" in world.condition("Accepted", "young")["message"]


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    world = World()
    world.put()
    world.reconciler.reconcile("shop")
    world.now += timedelta(minutes=1)
    world.play_others()
    world.reconciler.reconcile("shop")

    assert world.condition("Accepted")["lastTransitionTime"] == "2026-11-22T10:00:00Z"
    assert world.condition("Ready")["lastTransitionTime"] == "2026-11-22T10:01:00Z"


def test_topics_stay_by_default() -> None:
    world = World()
    body = world.put()
    world.reconciler.reconcile("shop")
    before = set(world.topics)

    assert finalized(world, body)
    assert world.topics == before


def test_with_the_policy_only_topics_made_for_it_and_named_by_nobody_else_go() -> None:
    world = World(topics={"route-changes"})
    body = world.put(topics={"deletionPolicy": "Delete"})
    world.reconciler.reconcile("shop")
    world.put("other", uid="u2", created="2026-11-23T00:00:00Z", groupID="g2", redisPrefix="b:", topic="events")

    assert finalized(world, body)
    assert "service-registry" not in world.topics
    # One was there before it, the others are the other's too.
    assert {"route-changes", "service-heartbeat", "dead-letter"} <= world.topics


def test_topics_wait_until_the_job_that_writes_to_them_is_gone() -> None:
    world = World()
    body = world.put(topics={"deletionPolicy": "Delete"})
    world.reconciler.reconcile("shop")
    job = world.cluster.objects["flinkdeployments", "waypost", "shop-route-table"]
    job["metadata"]["finalizers"] = ["flinkdeployments.flink.apache.org/finalizer"]

    assert not finalized(world, body)
    assert "service-registry" in world.topics

    del world.cluster.objects["flinkdeployments", "waypost", "shop-route-table"]
    assert finalized(world, body)
    assert "service-registry" not in world.topics


def finalized(world: World, body: dict[str, Any]) -> bool:
    body["metadata"]["deletionTimestamp"] = "2026-11-22T11:00:00Z"
    assert world.reconciler.reconcile("shop").steps == ()  # nothing is made any more
    once = world.reconciler.finalize(body)
    return once or world.reconciler.finalize(body)


def test_an_api_server_that_does_not_answer_is_the_callers_to_know() -> None:
    world = World()
    world.put()
    world.cluster.down = True

    with pytest.raises(ClusterUnavailable):
        world.reconciler.reconcile("shop")
