"""The acts of the self-healing show: what fails, who is told of it, and what is expected of the repair.

Times run from the alert's acknowledgement by Kafka to what the API server or Redis says, looked at 20 times a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from waypost.client.routes import RouteReader
from waypost.demo.figures import Expectation, at_least, exactly, happened, within_ms
from waypost.demo.healing_cluster import NAMESPACE, Pod, PodAgents, Shop
from waypost.demo.stage import say
from waypost.errors import RegistryUnavailable, StackError
from waypost.local.kubernetes import Kubernetes
from waypost.model.alert import POD_CRASH, Alert, AlertStatus, Target
from waypost.model.names import ServiceKey
from waypost.repair.history import Story, stories
from waypost.repair.topic_log import read_since, write, write_all
from waypost.topics import ALERTS, CONFIG, REPAIR_ACTIONS, REPAIR_RESULTS, default_topics
from waypost.wire.alerts import alert_key, encode_alert
from waypost.wire.config import ConfigRecord, encode_config
from waypost.wire.repair_config import POLICIES
from waypost.wire.repair_decisions import DecisionKind, decode_decision
from waypost.wire.repair_results import decode_result

PATIENCE_S = 120.0
"""How long an act waits for what takes seconds, before it says that it did not happen."""
_LOOK_S = 0.05
_COPIES = 3
"""An Alertmanager tells at least once."""

DOCUMENT = """\
version: "demo"
policies:
  - name: crashes
    match: {types: [PodCrash], namespaces: [shop]}
    steps: [{do: evict-pod, when_unnamed: restart}]
    mode: act
    wait_seconds: 3
    dwell_seconds: 2
  - name: nodes
    match: {types: [NodeFailure], scope: node, nodes: ["*"]}
    steps: [{do: cordon}, {do: isolate, for_seconds: 1800}, {do: drain, timeout_seconds: 120}]
    mode: act
    wait_seconds: 0
    dwell_seconds: 2
    undo: true
"""


@dataclass
class Scene:
    """What every act works with."""

    cluster: Kubernetes
    shop: Shop
    agents: PodAgents
    reader: RouteReader
    bootstrap: str
    expectations: list[Expectation] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    fewest: int = 1_000_000
    """Endpoints in any table, at the least, since somebody set it."""

    def expect(self, one: Expectation) -> None:
        self.expectations.append(one)
        say(f"    {'ok  ' if one.held else 'FAIL'} {one.name}: {one.measured}")

    def tables(self) -> Mapping[str, Mapping[str, str]]:
        """Return node by instance, by service, as Redis has them now."""
        found = {}
        for service in self.shop.services:
            view = self.reader.read(ServiceKey(NAMESPACE, service))
            found[service] = {name: endpoint.node for name, endpoint in view.endpoints.items()}
        self.fewest = min([self.fewest, *(len(table) for table in found.values())])
        return found

    def until(self, condition: Callable[[], bool], since: float) -> float | None:
        """Return after how many ms since then it held, None when it never did."""
        while time.monotonic() < since + PATIENCE_S:
            try:
                if condition():
                    return (time.monotonic() - since) * 1000
            except (RegistryUnavailable, OSError):
                pass  # asked again
            time.sleep(_LOOK_S)
        return None

    def tell(self, *alerts: Alert, copies: int = 1) -> float:
        """Write alerts as the bridge does; return when Kafka had all of them."""
        records = [(alert_key(alert), encode_alert(alert)) for alert in alerts] * copies
        write_all(self.bootstrap, _TOPIC[ALERTS].name, records)
        return time.monotonic()

    def put_in_force(self, document: str) -> None:
        record = ConfigRecord(name=POLICIES, revision=1, value=document)
        write(self.bootstrap, _TOPIC[CONFIG].name, *encode_config(record))

    def stories(self, since_ms: int) -> list[Story]:
        decisions = [decode_decision(v) for _, v in read_since(self.bootstrap, _TOPIC[REPAIR_ACTIONS].name, since_ms)]
        results = [decode_result(v) for _, v in read_since(self.bootstrap, _TOPIC[REPAIR_RESULTS].name, since_ms)]
        return stories(decisions, results)

    def settled(self, target: Target, kind: DecisionKind, since_ms: int) -> str:
        """Wait for the outcome of what was granted for a target; return it, or why there is none."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for story in self.stories(since_ms):
                ids = {one.action.id for one in story.decisions if one.action is not None and one.kind is kind}
                for result in story.results:
                    if story.target == str(target) and result.id in ids:
                        return result.outcome.value
            time.sleep(1.0)
        return "no outcome"


_TOPIC = default_topics()


def granted(told: list[Story], about_nodes: bool) -> int:
    """Return how many repairs were granted, of nodes or of services."""
    return sum(
        len({one.action.id for one in story.decisions if one.kind is DecisionKind.ACT and one.action is not None})
        for story in told
        if story.target.startswith("node/") is about_nodes
    )


def opening(scene: Scene) -> None:
    """Every pod is in its table, and the policies are in force."""
    scene.put_in_force(DOCUMENT)
    wanted = dict.fromkeys(scene.shop.services, scene.shop.replicas)
    took = scene.until(lambda: {s: len(t) for s, t in scene.tables().items()} == wanted, time.monotonic())
    if took is None:
        raise StackError(f"not every pod is in a table after {PATIENCE_S:.0f} s: {scene.tables()}")


def crash(scene: Scene) -> None:
    """A service crashes: one rolling restart, whoever tells how often."""
    service = scene.shop.services[0]
    say(f"PodCrash of {NAMESPACE}/{service}, told {_COPIES} times: its Deployment is restarted once")
    before = {pod.uid for pod in scene.shop.pods() if pod.service == service}
    names = set(scene.tables()[service])
    generation, since_ms = scene.shop.generation(service), _now_ms()
    scene.fewest = scene.shop.replicas
    alert = Alert(
        type=POD_CRASH, status=AlertStatus.FIRING, fingerprint="demo-crash", starts_at=since_ms, namespace=NAMESPACE,
        service=service, labels={"alertname": "PodCrash"},
    )  # fmt: skip
    at = scene.tell(alert, copies=_COPIES)
    asked = scene.until(lambda: scene.shop.generation(service) > generation, at)
    healthy = scene.until(lambda: _renewed(scene, service, names), at)
    outcome = scene.settled(Target(NAMESPACE, service), DecisionKind.ACT, since_ms)
    after = [pod for pod in scene.shop.pods() if pod.service == service and not pod.leaving]
    scene.expect(within_ms("crash: alert → restart asked for", asked, 5_000))
    scene.expect(within_ms("crash: alert → all endpoints new and in the table", healthy, 15_000))
    scene.expect(exactly("crash: repairs", granted(scene.stories(since_ms), False), 1))
    scene.expect(exactly("crash: changes of the Deployment", _changes(scene, service, generation), 1))
    scene.expect(exactly("crash: pods left of before", sum(pod.uid in before for pod in after), 0))
    scene.expect(at_least("crash: endpoints in the table at any moment", scene.fewest, scene.shop.replicas - 1))
    scene.expect(happened("crash: outcome", "succeeded", outcome, outcome == "succeeded"))
    scene.tell(replace(alert, status=AlertStatus.RESOLVED))
    scene.figures["crash"] = {"restart_ms": asked, "healthy_ms": healthy}


def node_failure(scene: Scene) -> tuple[str, list[Alert]]:
    """A node dies. Nobody says so: its pods' alerts are folded into the one cause."""
    by_node = _by_node(scene.shop.pods())
    node, pods = max(by_node.items(), key=lambda one: (len(one[1]), one[0]))
    say(f"{node} dies with {len(pods)} pods; each of them raises an alert of its own")
    since_ms = _now_ms()
    scene.fewest = scene.shop.replicas
    scene.agents.silent.add(node)
    scene.cluster.fail_node(node)
    alerts = [
        Alert(
            type=POD_CRASH, status=AlertStatus.FIRING, fingerprint=f"demo-{pod.uid}", starts_at=since_ms,
            namespace=NAMESPACE, service=pod.service, pod=pod.name, labels={"alertname": "PodCrash"},
        )
        for pod in pods
    ]  # fmt: skip
    at = scene.tell(*alerts, copies=_COPIES)
    seen = _together(
        scene,
        at,
        cordoned=lambda: scene.shop.is_cordoned(node),
        isolated=lambda: all(node not in table.values() for table in scene.tables().values()),
        elsewhere=lambda: _elsewhere(scene, node),
        back=lambda: all(len(t) == scene.shop.replicas and node not in t.values() for t in scene.tables().values()),
    )
    outcome = scene.settled(Target("node", node), DecisionKind.ACT, since_ms)
    told = scene.stories(since_ms)
    staying = [pod for pod in scene.shop.pods() if pod.node == node and not pod.leaving]
    scene.expect(within_ms("node: alerts → cordoned", seen["cordoned"], 2_500))
    scene.expect(within_ms("node: alerts → out of every table", seen["isolated"], 2_500))
    scene.expect(within_ms("node: alerts → replacements Ready elsewhere", seen["elsewhere"], 20_000))
    scene.expect(within_ms("node: alerts → all tables full again", seen["back"], 20_000))
    scene.expect(exactly("node: repairs of the node", granted(told, True), 1))
    scene.expect(exactly("node: repairs of single services", granted(told, False), 0))
    scene.expect(exactly("node: pods that were not evicted", len(staying), 0))
    scene.expect(at_least("node: endpoints in any table at any moment", scene.fewest, 1))
    scene.expect(happened("node: outcome", "succeeded", outcome, outcome == "succeeded"))
    scene.figures["node_failure"] = {"node": node, "alerts": len(alerts), **{f"{k}_ms": v for k, v in seen.items()}}
    return node, alerts


def recovery(scene: Scene, node: str, alerts: list[Alert]) -> None:
    """The node is back and the alerts are over: cordon and isolation are taken back, by us who made them."""
    say(f"{node} is back; the alerts are resolved")
    since_ms = _now_ms()
    scene.cluster.recover_node(node)
    scene.agents.silent.discard(node)
    at = scene.tell(*(replace(alert, status=AlertStatus.RESOLVED) for alert in alerts), copies=_COPIES)
    uncordoned = scene.until(lambda: not scene.shop.is_cordoned(node), at)
    outcome = scene.settled(Target("node", node), DecisionKind.UNDO, since_ms)
    scene.expect(within_ms("recovery: alerts over → uncordoned", uncordoned, 2_500))
    scene.expect(happened("recovery: outcome", "succeeded", outcome, outcome == "succeeded"))
    # Somebody new has to come to the node, and be let in.
    service = scene.shop.services[0]
    more = scene.shop.replicas + len(_by_node(scene.shop.pods())) + 1
    scene.cluster.kubectl("scale", "deployment", service, f"--replicas={more}", "-n", NAMESPACE)
    released = scene.until(lambda: node in scene.tables()[service].values(), time.monotonic())
    scene.expect(within_ms("recovery: new pod on the node → in the table", released, 15_000))
    scene.figures["recovery"] = {"uncordoned_ms": uncordoned, "released_ms": released}


def _renewed(scene: Scene, service: str, before: set[str]) -> bool:
    names = set(scene.tables()[service])
    return len(names) == scene.shop.replicas and not names & before


def _changes(scene: Scene, service: str, before: int) -> int:
    return scene.shop.generation(service) - before


def _elsewhere(scene: Scene, node: str) -> bool:
    there = [pod for pod in scene.shop.pods() if pod.ready and not pod.leaving and pod.node != node]
    return len(there) == len(scene.shop.services) * scene.shop.replicas


def _by_node(pods: list[Pod]) -> dict[str, list[Pod]]:
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        if pod.ready and not pod.leaving:
            found.setdefault(pod.node, []).append(pod)
    return found


def _together(scene: Scene, since: float, **conditions: Callable[[], bool]) -> dict[str, float | None]:
    """Return after how many ms each of them held first; they are looked at in turns."""
    seen: dict[str, float | None] = dict.fromkeys(conditions)

    def look() -> bool:
        for name, condition in conditions.items():
            if seen[name] is None and condition():
                seen[name] = (time.monotonic() - since) * 1000
        return all(at is not None for at in seen.values())

    scene.until(look, since)
    return seen


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
