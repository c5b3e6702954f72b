"""The real repair job between a real broker and an API server on a real socket: killed, flooded and switched off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import orjson
import pytest

from tests.flink.repair_cluster import RepairCluster, RepairTopics
from tests.model.repairs import a_node_alert, an_alert
from tests.repair.fake_api_server import Served, served
from waypost.model.alert import Alert
from waypost.model.budget import BudgetRules
from waypost.model.refusals import Reason
from waypost.model.repair_action import Outcome
from waypost.repair.fake import FakeCluster
from waypost.repair.objects import STATEFUL_SET
from waypost.repair.port import Unavailable
from waypost.wire.alerts import alert_key, encode_alert
from waypost.wire.config import ConfigRecord, encode_config
from waypost.wire.repair_config import POLICIES, Switch, switch_config

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1200)]

ACTING = """
version: "1"
policies:
  - name: pods
    match: {types: [PodCrash], namespaces: [shop]}
    steps: [{do: evict-pod}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 2
    cooldown_seconds: 10
  - name: nodes
    match: {types: [NodeFailure], scope: node, nodes: ["*"]}
    steps: [{do: cordon}, {do: isolate, for_seconds: 600}, {do: drain}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 2
    undo: true
"""
STORM = 40


@pytest.fixture
def topics(kafka: str) -> RepairTopics:
    made = RepairTopics(kafka)
    made.create()
    return made


@pytest.fixture
def api() -> Iterator[Served]:
    """Services with StatefulSets, whose pods keep their names: a second eviction of one would be seen."""
    cluster = FakeCluster()
    for name in ("n1", "n2", "n3"):
        cluster.add_node(name)
    for name in ("payments", *(f"s{n}" for n in range(STORM))):
        cluster.add_workload(STATEFUL_SET, "shop", name, replicas=3)
        cluster.add_service("shop", name, {"app": name})
    with served(cluster) as running:
        yield running


def now() -> int:
    return int(time.time() * 1000)


def firing(*alerts: Alert, copies: int = 1) -> list[tuple[bytes, bytes]]:
    return [(alert_key(alert), encode_alert(alert)) for _ in range(copies) for alert in alerts]


def address_of(pod: str) -> str:
    return str(IPv4Address(0x0A000000 + crc32(pod.encode()) % 2**24))


def snapshot(service: str, pods: list[tuple[str, str]], revision: int = 1) -> tuple[bytes, bytes]:
    """A table as the route job writes it. Pods have addresses of their own: with one they would be the same pod."""
    entries = {
        name: {"address": address_of(name), "port": 80, "weight": 100, "zone": "", "node": node, "metadata": {},
               "since": 1, "held": False}
        for name, node in pods
    }  # fmt: skip
    doc = {
        "service": service, "namespace": "shop", "op": "snapshot", "revision": revision, "base": 0, "epoch": 1,
        "event_time": 1, "rule": "register", "digest": "0" * 16, "protected": False, "cause": [],
        "delta": {"set": entries, "delete": []}, "chunk": {"i": 1, "n": 1},
    }  # fmt: skip
    return f"shop/{service}".encode(), orjson.dumps(doc)


class Gate:
    """Holds the first request that changes something at a path until it is opened; `drops`: it never has an effect."""

    def __init__(self, ending: str, *, drops: bool) -> None:
        self._ending, self._drops = ending, drops
        self.reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, _method: str, path: str) -> None:
        if not path.endswith(self._ending) or self.reached.is_set():
            return
        self.reached.set()
        assert self._opened.wait(600)
        if self._drops:
            raise Unavailable("503")

    def open(self) -> None:
        self._opened.set()


def test_killed_twice_flooded_and_switched_off(topics: RepairTopics, api: Served, tmp_path: Path) -> None:
    cluster = RepairCluster(topics, api.kubeconfig(tmp_path), tmp_path)
    fake, requests = api.cluster, api.requests
    pod = fake.pod("shop", "payments-0")
    assert pod is not None
    topics.write("config", encode_config(ConfigRecord(name=POLICIES, revision=1, value=ACTING)))
    everybody = {p.namespace + "/" + p.name: p for p in fake.all_pods()}
    for service in ("payments", *(f"s{n}" for n in range(STORM))):
        there = [(p.name, p.node) for p in everybody.values() if p.labels["app"] == service]
        topics.write("route_changes", snapshot(service, there))
    alert = an_alert(pod="payments-0", starts_at=now(), labels={"owner": "\U0001f40d \xe9"})
    topics.write("alerts", (b"x", b"poison"), *firing(alert, copies=3))

    # The decision is made, the claim is on the workload, the call is on its way: dead.
    requests.before = before = Gate("/eviction", drops=True)
    with cluster.running(fake.settle) as job:
        job.until(before.reached.is_set)
        job.kill()
    before.open()
    assert requests.changed("/eviction") == 0

    # The pod is evicted, and nobody hears of it: dead.
    requests.after = after = Gate("/eviction", drops=False)
    with cluster.running(fake.settle) as job:
        job.until(after.reached.is_set)
        job.kill()
    after.open()

    with cluster.running(fake.settle) as job:
        topics.write("alerts", *firing(alert, copies=3))
        job.until(lambda: len(topics.results()) > 0)
        assert {(result.outcome, result.detail) for result in topics.results()} == {
            (Outcome.SUCCEEDED, "verified for 2 s")
        }
        assert requests.changed("/eviction") == 1
        successor = fake.pod("shop", "payments-0")
        assert successor is not None
        assert successor.uid != pod.uid
        assert {one.action.id for one in topics.granted() if one.action} == {topics.results()[0].id}

        # A storm of copies, on every node, so none of them is the cause: one repair at a time, none of them twice.
        storm = [
            an_alert(service=f"s{n}", pod=f"s{n}-{n % 3}", fingerprint=f"storm-{n}", starts_at=now())
            for n in range(STORM)
        ]
        topics.write("alerts", *firing(*storm, *reversed(storm), copies=3))
        job.until(lambda: len({result.id for result in topics.results()}) >= 4)

        # Somebody switches repairs off. Whoever asks from then on is refused.
        topics.write("config", encode_config(switch_config(Switch(enabled=False, by="anna", at=now()))))
        topics.write("alerts", *firing(a_node_alert("n1", starts_at=now())))
        refused = ("f-n1", Reason.KILL_SWITCH)
        job.until(lambda: refused in {(one.fingerprint, one.reason) for one in topics.decisions()})
        evictions = {path: n for (_, path), n in requests.changes.items() if path.endswith("/eviction")}
        assert set(evictions.values()) == {1}
        assert len(evictions) <= len(topics.granted())
        assert requests.changed("/nodes/n1") == 0

        # And on again: the node that failed meanwhile is cordoned, isolated and emptied.
        evicted = requests.changed("/eviction")
        topics.write("config", encode_config(switch_config(Switch(enabled=True, by="anna", at=now()))))
        job.until(lambda: len(topics.read("isolation")) > 0)
        assert requests.changed("/nodes/n1") == 1
        node = fake.node("n1")
        assert node is not None
        assert node.unschedulable
        job.until(lambda: requests.changed("/eviction") > evicted)

    assert len({one.action.id for one in topics.granted() if one.action}) == len(topics.granted())
    acts = sorted((one for one in topics.granted() if one.target != "node/n1"), key=lambda one: one.at)
    ended = {result.id: result.at for result in topics.results()}
    for one, following in pairwise(acts):
        assert one.action is not None
        if following.at < acts[0].at + BudgetRules().proven_ms:
            assert ended[one.action.id] <= following.at, "one repair at a time until a success has held"
    assert [orjson.loads(letter)["reason"] for letter in topics.read("dead_letter")].count("bad-json") >= 1
