"""`waypost config-sync` between a real Kubernetes API and a real Kafka, with a service account's few permissions."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.contracts.conftest import eventually
from tests.e2e.config_syncer import Syncer
from waypost.cli import main
from waypost.client.config_feed import KafkaFeed, read_to_end
from waypost.client.config_subscriber import ConfigSubscriber
from waypost.local.kubernetes import Kubernetes
from waypost.topics import CONFIG, default_topics, ensure_topics

CEILING = timedelta(seconds=60)
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: config-sync}
rules:
  - {apiGroups: [""], resources: [configmaps], verbs: [list, watch]}
  - {apiGroups: [""], resources: [events], verbs: [create]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
"""


@dataclass
class World:
    """A namespace, a topic, and syncers between them."""

    cluster: Kubernetes
    namespace: str
    kafka: str
    topic: str
    directory: Path
    kubeconfig: Path
    stack: ExitStack

    def syncer(self, name: str = "one", *arguments: str) -> Syncer:
        given = [
            "-n", self.namespace, "--kafka", self.kafka, "--topic", self.topic, "--kubeconfig", str(self.kubeconfig),
            "--identity", name, "--log-level", "info", *arguments,
        ]  # fmt: skip
        syncer = Syncer(self.directory, name, given)
        self.stack.callback(syncer.kill)
        syncer.start()
        return syncer

    def apply(self, name: str, data: dict[str, str] | None = None, **more: Any) -> None:
        manifest = yaml.safe_dump(self.manifest(name, data, **more))
        self.cluster.kubectl("apply", "--server-side", "-n", self.namespace, "-f", "-", stdin=manifest)

    def manifest(
        self, name: str, data: dict[str, str] | None = None, *, binary: dict[str, str] | None = None,
        change_set: str | None = None, size: int = 1,
    ) -> dict[str, object]:  # fmt: skip
        annotations = {} if change_set is None else {
            "waypost.io/change-set": change_set, "waypost.io/change-set-size": str(size),
        }  # fmt: skip
        return {
            "apiVersion": "v1", "kind": "ConfigMap", "data": data or {}, "binaryData": binary or {},
            "metadata": {"name": name, "labels": {"waypost.io/config": "true"}, "annotations": annotations},
        }  # fmt: skip

    def delete(self, name: str) -> None:
        self.cluster.kubectl("delete", "configmap", name, "-n", self.namespace)

    def name(self, config: str) -> str:
        return f"{self.namespace}/{config}"

    def committed(self) -> int:
        """Return how many records were ever committed."""
        feed = KafkaFeed(self.kafka, self.topic)
        try:
            return len(list(read_to_end(feed)))
        finally:
            feed.close()

    @contextmanager
    def subscribed(self) -> Iterator[Callable[[], dict[str, str]]]:
        subscriber = ConfigSubscriber(lambda: KafkaFeed(self.kafka, self.topic))
        subscriber.start()
        try:
            assert subscriber.wait(CEILING)
            yield lambda: {
                name.removeprefix(f"{self.namespace}/"): record.value
                for name, record in subscriber.snapshot().items()
            }  # fmt: skip
        finally:
            subscriber.close()


@pytest.fixture
def world(kubernetes: Kubernetes, namespace: str, kafka: str, tmp_path: Path) -> Iterator[World]:
    topic = f"service-config-{uuid.uuid4().hex[:8]}"
    ensure_topics(kafka, [default_topics({CONFIG: topic})[CONFIG]])
    kubernetes.kubectl("create", "serviceaccount", "config-sync", "-n", namespace)
    kubernetes.kubectl("apply", "-n", namespace, "-f", "-", stdin=ROLE)
    kubernetes.kubectl(
        "create", "rolebinding", "config-sync", "--role=config-sync", f"--serviceaccount={namespace}:config-sync",
        "-n", namespace,
    )  # fmt: skip
    kubeconfig = kubernetes.service_account_kubeconfig(namespace, "config-sync")
    with ExitStack() as stack:
        yield World(kubernetes, namespace, kafka, topic, tmp_path, kubeconfig, stack)


def until(condition: Callable[[], object]) -> None:
    eventually(condition, within=60.0)


def test_config_maps_become_configurations_and_their_end_tombstones(world: World) -> None:
    world.apply("app", {"limits": "10", "mode": "fast"}, binary={"logo": "AAEC"})
    world.syncer()

    with world.subscribed() as texts:
        until(lambda: texts() == {"app/limits": "10", "app/mode": "fast", "app/logo": "AAEC"})
        world.apply("app", {"limits": "11"})
        until(lambda: texts() == {"app/limits": "11"})
        world.apply("other", {"a": "1"})
        until(lambda: texts() == {"app/limits": "11", "other/a": "1"})
        world.delete("app")
        until(lambda: texts() == {"other/a": "1"})


def test_a_change_set_is_published_when_it_is_complete_and_its_author_is_told_that_it_waits(world: World) -> None:
    world.syncer()

    with world.subscribed() as texts:
        world.apply("one", {"a": "1"}, change_set="r1", size=2)
        until(lambda: "ConfigWaiting" in events_of(world, "one"))
        assert texts() == {}
        world.apply("two", {"a": "1"}, change_set="r1", size=2)
        until(lambda: texts() == {"one/a": "1", "two/a": "1"})


def events_of(world: World, name: str) -> str:
    return world.cluster.kubectl(
        "get", "events", "-n", world.namespace, "--field-selector", f"involvedObject.name={name}",
        "-o", "jsonpath={range .items[*]}{.reason} {.message}{end}",
    )  # fmt: skip


def test_what_is_too_large_is_told_and_leaves_the_rest_alone(world: World) -> None:
    world.syncer()

    with world.subscribed() as texts:
        world.apply("large", {"a": "1"})
        until(lambda: texts() == {"large/a": "1"})
        world.apply("large", {"a": '"' * 510_000})
        until(lambda: "too-large" in events_of(world, "large"))
        world.apply("small", {"a": "1"})
        until(lambda: texts() == {"large/a": "1", "small/a": "1"})


def test_a_killed_syncer_goes_on_without_a_gap_and_repeats_nothing(world: World) -> None:
    syncer = world.syncer()

    with world.subscribed() as texts:
        world.apply("stays", {"a": "1"})
        world.apply("goes", {"a": "1"})
        until(lambda: len(texts()) == 2)
        syncer.kill()
        world.delete("goes")
        world.apply("comes", {"a": "1"})
        syncer.start()
        until(lambda: texts() == {"stays/a": "1", "comes/a": "1"})

    assert world.committed() == 4  # three new, one tombstone
    assert syncer.terminate() == 0


def test_the_watch_survives_an_outage_of_the_api_server(world: World) -> None:
    world.syncer()

    with world.subscribed() as texts:
        world.apply("app", {"a": "1"})
        until(lambda: texts() == {"app/a": "1"})
        world.cluster.stop_server("kube-apiserver")
        world.cluster.start_server("kube-apiserver")
        world.cluster.wait_until(world.cluster._servers["kube-apiserver"].is_healthy, "the API server serves again")
        world.apply("app", {"a": "2"})
        until(lambda: texts() == {"app/a": "2"})


def test_of_two_syncers_without_a_lease_the_newer_writes_and_the_older_ends(world: World) -> None:
    old = world.syncer("old")
    with world.subscribed() as texts:
        world.apply("app", {"a": "1"})
        until(lambda: texts() == {"app/a": "1"})
        new = world.syncer("new")
        values = itertools.count(2)

        def one_has_ended() -> bool:
            # Whoever lost finds out with its next write.
            value = str(next(values))
            world.apply("app", {"a": value})
            until(lambda: texts() == {"app/a": value})
            return [old.status(), new.status()].count(None) == 1

        until(one_has_ended)

    loser = old if old.status() is not None else new
    assert loser.status() == 1
    assert loser.said("newer syncer")


def test_two_syncers_with_a_lease_take_turns(world: World) -> None:
    lease = ("--lease", f"{world.namespace}/config-sync")
    first = world.syncer("first", *lease)
    until(lambda: first.said("publishing configurations"))
    second = world.syncer("second", *lease)
    until(lambda: second.said("waiting for the lease"))

    with world.subscribed() as texts:
        world.apply("app", {"a": "1"})
        until(lambda: texts() == {"app/a": "1"})
        assert not second.said("publishing configurations")
        first.kill()
        world.apply("app", {"a": "2"})
        until(lambda: texts() == {"app/a": "2"})
        assert second.terminate() == 0
        first.start()
        world.apply("app", {"a": "3"})
        until(lambda: texts() == {"app/a": "3"})

    assert world.committed() == 3


def test_a_change_set_is_shown_and_taken_back(world: World) -> None:
    world.syncer()
    kafka = ("--kafka", world.kafka, "--topic", world.topic)
    with world.subscribed() as texts:
        for release in ("r1", "r2"):
            world.apply("one", {"a": release}, change_set=release, size=2)
            world.apply("two", {"a": release, release: "x"}, change_set=release, size=2)
            until(lambda release=release: texts() == {"one/a": release, "two/a": release, f"two/{release}": "x"})

        history = CliRunner().invoke(main, ["config", "history", *kafka, "-o", "json"])
        ids = [one["change_set"] for one in yaml.safe_load(history.output)]
        last = ids[-1]
        diff = CliRunner().invoke(main, ["config", "diff", last, *kafka])
        done = CliRunner().invoke(
            main, ["config", "rollback", last, *kafka, "--kubeconfig", str(world.cluster.kubeconfig)]
        )  # fmt: skip

        assert last.startswith(world.name("r2@"))
        assert {"-r1", "+r2"} <= set(diff.output.splitlines())
        assert done.exit_code == 0, done.output
        until(lambda: texts() == {"one/a": "r1", "two/a": "r1", "two/r1": "x"})
        again = CliRunner().invoke(main, ["config", "rollback", last, *kafka])
        assert again.exit_code == 1
        assert "changed again" in again.output
