"""`waypost controller` on a real API server, Kafka and Valkey. The Flink operator is played: nobody runs jobs here."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from kubernetes import client

from tests.kubernetes import manifests
from tests.kubernetes.controllers import Controller, controller
from waypost.client.keys import Keys
from waypost.local.kubernetes import Kubernetes
from waypost.model.names import ServiceKey
from waypost.topics import connected

# Several minutes on a slow machine: a leader that was killed is waited for.
pytestmark = pytest.mark.timeout(900)

FLINK = ("flink.apache.org", "v1beta1", "waypost", "flinkdeployments")
TOPICS = {"registry", "heartbeat", "isolation", "changes", "dead"}
KSD = ("waypost.io", "v1alpha1", "waypost", "kafkaservicediscoveries")


class Installation:
    """One KafkaServiceDiscovery of the test's own, seen with the administrator's eyes."""

    def __init__(self, cluster: Kubernetes, kafka: str, api: client.ApiClient) -> None:
        self.name = f"t{secrets.token_hex(3)}"
        self.cluster, self.kafka = cluster, kafka
        self.custom, self.apps = client.CustomObjectsApi(api), client.AppsV1Api(api)

    def apply(self, **spec: Any) -> None:
        own = {
            "topic": f"{self.name}-registry",
            "heartbeatTopic": f"{self.name}-heartbeat",
            "isolationTopic": f"{self.name}-isolation",
            "routeChangesTopic": f"{self.name}-changes",
            "deadLetterTopic": f"{self.name}-dead",
            "groupID": self.name,
            "redisPrefix": f"{self.name}:",
            "topics": {"partitions": 2},
        }
        kind = {"apiVersion": "waypost.io/v1alpha1", "kind": "KafkaServiceDiscovery"}
        body = {**kind, "metadata": {"name": self.name, "namespace": "waypost"}, "spec": {**own, **spec}}
        self.cluster.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(body))

    def job(self) -> dict[str, Any] | None:
        return self._or_none(lambda: dict(self.custom.get_namespaced_custom_object(*FLINK, f"{self.name}-route-table")))

    def is_told(self, setting: str) -> bool:
        """Return whether the job has this argument."""
        job = self.job()
        return job is not None and setting in job["spec"]["job"]["args"]

    def deployment(self, part: str) -> client.V1Deployment | None:
        return self._or_none(lambda: self.apps.read_namespaced_deployment(f"{self.name}-{part}", "waypost"))

    def status(self) -> dict[str, Any]:
        body = self._or_none(lambda: dict(self.custom.get_namespaced_custom_object(*KSD, self.name))) or {}
        return dict(body.get("status") or {})

    def condition(self, kind: str) -> tuple[str, str]:
        """Return status and reason, empty before it is told."""
        found = [c for c in self.status().get("conditions", ()) if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def play_operator(self) -> None:
        """Say what the Flink operator says of a job that runs."""
        job = self.job()
        assert job
        said = {
            "observedGeneration": job["metadata"]["generation"],
            "jobManagerDeploymentStatus": "READY",
            "lifecycleState": "STABLE",
            "jobStatus": {"state": "RUNNING"},
        }
        self.custom.patch_namespaced_custom_object_status(*FLINK, f"{self.name}-route-table", {"status": said})

    def topics(self) -> set[str]:
        """Return the suffixes of the topics of this name."""
        with connected(self.kafka) as admin:
            names = {str(topic["name"]) for topic in admin.describe_topics()}
        return {name.removeprefix(f"{self.name}-") for name in names if name.startswith(f"{self.name}-")}

    def until(self, condition: Any, what: str) -> None:
        self.cluster.wait_until(condition, what)

    def become_ready(self) -> None:
        self.until(lambda: self.job() is not None, "the FlinkDeployment is made")
        self.play_operator()
        self.until(lambda: self.condition("Ready") == ("True", "AllReady"), f"{self.name} is Ready")

    def versions(self) -> dict[str, str]:
        """Return the resourceVersion of everything there is: it moves with every write."""
        body = self._or_none(lambda: dict(self.custom.get_namespaced_custom_object(*KSD, self.name)))
        job, witness = self.job(), self.deployment("witness")
        assert body
        assert job
        assert witness
        return {
            "object": body["metadata"]["resourceVersion"],
            "job": job["metadata"]["resourceVersion"],
            "witness": witness.metadata.resource_version,
        }

    @staticmethod
    def _or_none(ask: Any) -> Any:
        try:
            return ask()
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise


@pytest.fixture(scope="module")
def kept_running(
    installed: Kubernetes, kafka: str, valkey: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Controller]]:
    """Return the controller that runs: the same for all tests, or another when it has ended, as a cluster would start
    one (it ends when it cannot renew its Lease in time)."""
    started: list[Controller] = []
    with ExitStack() as running:

        def kept() -> Controller:
            if not started or started[-1].process.poll() is not None:
                directory, identity = tmp_path_factory.mktemp("controller"), f"first-{len(started)}"
                one = controller(installed, directory, identity=identity, kafka=kafka, redis=valkey)
                started.append(running.enter_context(one))
            return started[-1]

        yield kept


@pytest.fixture
def working(installed: Kubernetes, kept_running: Callable[[], Controller]) -> Controller:
    """A controller that leads."""
    first = kept_running()
    installed.wait_until(lambda: first.leads or _ended(first), "it leads")
    return first


def _ended(process: Controller) -> bool:
    assert process.process.poll() is None, process.said[-3000:]
    return False


@pytest.fixture
def mine(installed: Kubernetes, kafka: str) -> Iterator[Installation]:
    with installed.api_client() as api:
        yield Installation(installed, kafka, api)


def test_an_object_becomes_topics_a_job_a_witness_and_a_mirror(working: Controller, mine: Installation) -> None:
    mine.apply(windowSize="5m", namespaceSelector={"matchNames": ["shop"]})

    mine.become_ready()

    assert mine.topics() == TOPICS
    job = mine.job()
    assert job
    assert "window.size_ms=300000" in job["spec"]["job"]["args"]
    assert job["metadata"]["ownerReferences"][0]["name"] == mine.name
    assert mine.deployment("witness").status.available_replicas == 2
    assert mine.deployment("mirror").status.available_replicas == 1
    status = mine.status()
    assert status["observedGeneration"] == 1
    assert (status["services"], status["endpoints"]) == (0, 0)
    assert {c["status"] for c in status["conditions"]} == {"True"}


def test_counts_follow_the_tables(working: Controller, mine: Installation, valkey: str) -> None:
    mine.apply()
    mine.become_ready()
    keys = Keys(f"{mine.name}:")
    with redis.Redis.from_url(valkey) as tables:
        for service, endpoints in (("cart", 3), ("pay", 2)):
            key = ServiceKey("shop", service)
            meta = {"endpoints": endpoints, "protected": int(service == "pay"), "window_end": 1_795_000_000_000}
            tables.hset(keys.meta(key), mapping=meta)
            tables.sadd(keys.services, str(key))

    mine.until(lambda: mine.status().get("endpoints") == 5, "five endpoints are told")

    status = mine.status()
    assert (status["services"], status["protectedServices"]) == (2, 1)
    assert status["lastWindow"] == "2026-11-18T11:06:40Z"


def test_passes_over_what_is_right_write_nothing(working: Controller, mine: Installation) -> None:
    mine.apply()
    mine.become_ready()
    before = mine.versions()

    # A change of another object is seen and acted on: so several passes of this one are over.
    other = Installation(mine.cluster, mine.kafka, mine.custom.api_client)
    for window in ("2m", "3m", "4m"):
        other.apply(windowSize=window)
        mine.until(partial(other.is_told, f"window.size_ms={int(window[0]) * 60_000}"), "it is acted on")

    assert mine.versions() == before


def test_drift_is_healed(working: Controller, mine: Installation) -> None:
    mine.apply()
    mine.become_ready()

    mine.custom.delete_namespaced_custom_object(*FLINK, f"{mine.name}-route-table")
    mine.apps.delete_namespaced_deployment(f"{mine.name}-witness", "waypost")
    mine.until(lambda: mine.job() is not None and mine.deployment("witness") is not None, "both are made again")

    mine.cluster.kubectl("scale", "-n", "waypost", f"deployment/{mine.name}-witness", "--replicas=0")
    mine.until(lambda: mine.deployment("witness").spec.replicas == 2, "two witnesses are wanted again")


def test_a_changed_wish_reaches_the_job(working: Controller, mine: Installation) -> None:
    mine.apply(namespaceSelector={"matchNames": ["shop"]})
    mine.become_ready()

    mine.apply(job={"state": "suspended"})

    mine.until(lambda: mine.job()["spec"]["job"]["state"] == "suspended", "the job is to stop")  # type: ignore[index]
    mine.until(lambda: mine.deployment("mirror") is None, "the mirror is gone")
    mine.until(lambda: mine.condition("Ready")[0] != "True", "it is told")
    assert mine.status()["observedGeneration"] == 2


def test_topics_outlive_the_object(working: Controller, mine: Installation) -> None:
    mine.apply()
    mine.become_ready()

    mine.cluster.kubectl("delete", "ksd", "-n", "waypost", mine.name, "--timeout=240s")

    mine.until(lambda: mine.job() is None and mine.deployment("witness") is None, "what it owned is gone")
    assert mine.topics() == TOPICS


def test_topics_go_with_it_when_it_says_so(working: Controller, mine: Installation) -> None:
    mine.apply(topics={"partitions": 2, "deletionPolicy": "Delete"})
    mine.become_ready()

    mine.cluster.kubectl("delete", "ksd", "-n", "waypost", mine.name, "--timeout=240s")

    mine.until(lambda: mine.topics() == set(), "its topics are gone")


def test_a_second_of_the_same_tables_is_refused(working: Controller, mine: Installation) -> None:
    mine.apply()
    mine.become_ready()
    other = Installation(mine.cluster, mine.kafka, mine.custom.api_client)

    other.apply(redisPrefix=f"{mine.name}:")

    mine.until(lambda: other.condition("Accepted") == ("False", "Conflict"), "the younger one is told")
    assert other.job() is None
    assert mine.condition("Ready") == ("True", "AllReady")


@pytest.mark.kubernetes
def test_for_development_it_works_without_the_flink_operator(kafka: str, valkey: str, tmp_path: Path) -> None:
    with Kubernetes(tmp_path / "cluster", nodes=1) as cluster, cluster.api_client() as api:
        manifests.apply(cluster, manifests.built(manifests.BASE / "crd"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=240s")
        for base in ("namespace", "connection", "flink", "witness-account", "controller"):
            manifests.apply(cluster, manifests.built(manifests.BASE / base))
        mine = Installation(cluster, kafka, api)
        with controller(cluster, tmp_path, identity="alone", kafka=kafka, redis=valkey) as alone:
            mine.apply(windowSize="5m", job={"target": "flink-run"})

            mine.until(lambda: mine.condition("Ready") == ("True", "AllReady") or _ended(alone), "it is Ready")

            job = mine.deployment("route-table")
            assert job.status.available_replicas == 1
            [submit] = [one for one in job.spec.template.spec.containers if one.name == "submit"]
            assert "window.size_ms=300000" in submit.args
            mine.apply(windowSize="2m", job={"target": "flink-run"})
            mine.until(lambda: "window.size_ms=120000" in str(mine.deployment("route-table")), "the wish reaches it")
            cluster.kubectl("delete", "ksd", "-n", "waypost", mine.name, "--timeout=240s")
            mine.until(lambda: mine.deployment("route-table") is None, "the job is gone")


def test_of_two_controllers_one_works_and_the_other_takes_over(
    installed: Kubernetes, kafka: str, valkey: str, tmp_path: Path, mine: Installation, working: Controller
) -> None:
    with controller(installed, tmp_path, identity="second", kafka=kafka, redis=valkey) as second:
        installed.wait_until(lambda: "waits for the lease" in second.said or _ended(second), "the second one waits")
        mine.apply()
        mine.become_ready()
        assert not second.leads
        before = mine.versions()

        working.process.send_signal(signal.SIGKILL)
        mine.custom.delete_namespaced_custom_object(*FLINK, f"{mine.name}-route-table")

        installed.wait_until(lambda: second.leads or _ended(second), "the second one leads")
        mine.until(lambda: mine.job() is not None, "it makes what is missing")
        assert mine.versions()["witness"] == before["witness"], "it touches nothing that is right"


def test_a_controller_that_is_told_to_stop_ends_well(
    installed: Kubernetes, kafka: str, valkey: str, tmp_path: Path
) -> None:
    with controller(installed, tmp_path, identity="third", kafka=kafka, redis=valkey) as third:
        installed.wait_until(lambda: third.leads or _ended(third), "it leads: the others are gone")

        third.process.send_signal(signal.SIGTERM)

        assert third.process.wait(timeout=60) == 0, third.said[-3000:]
        assert "Traceback" not in third.said
