"""The repair job's operators together: from an alert in the log to one effect in the cluster."""

from __future__ import annotations

import orjson
import pytest

from jobs.operators.budget import SETTLE_MS
from tests.jobs.repair_world import World
from tests.model.repairs import MINUTE, PAYMENTS, SECOND, T0, a_node_alert, an_alert
from waypost.model.alert import Target
from waypost.model.isolation import Verb
from waypost.model.names import ServiceKey
from waypost.model.repair_action import Outcome
from waypost.model.repair_state import Approval
from waypost.repair.objects import DEPLOYMENT
from waypost.wire.alerts import MAX_BYTES, alert_fields, alert_key, encode_alert
from waypost.wire.repair_config import ApprovalFor, Resumption, approval_config, resume_config

ACTING = """
version: "1"
policies:
  - name: pods
    match: {types: [PodCrash], namespaces: [shop]}
    steps: [{do: evict-pod}]
    mode: %s
    wait_seconds: 1
    dwell_seconds: 5
    cooldown_seconds: 60
  - name: nodes
    match: {types: [NodeFailure], scope: node, nodes: ["*"]}
    steps: [{do: cordon}, {do: isolate, for_seconds: 600}, {do: drain}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 5
    undo: true
"""


def a_world(*, mode: str = "act", replicas: int = 3) -> World:
    world = World()
    for n in range(1, 5):
        world.cluster.add_node(f"n{n}")
    world.cluster.add_workload(DEPLOYMENT, "shop", "payments", replicas=replicas, node="n1")
    world.cluster.add_service("shop", "payments", {"app": "payments"})
    world.policies(ACTING % mode)
    world.table(PAYMENTS, pods(world))
    world.run_for(2 * SECOND)
    return world


def pods(world: World, app: str = "payments") -> list[str]:
    return sorted(pod.name for pod in world.cluster.pods("shop", {"app": app}))


def crash_of(world: World, **facts: object):  # type: ignore[no-untyped-def]
    return an_alert(**{"pod": pods(world)[0], "starts_at": world.clock.wall} | facts)


def test_a_crash_is_repaired_once_and_told_step_by_step() -> None:
    world = a_world()
    pod = pods(world)[0]
    world.alert(crash_of(world))

    world.run_for(30 * SECOND)

    assert world.calls("evict") == [f"shop/{pod}"]
    assert world.kinds() == ["waiting", "ask", "act"]
    [result] = world.results
    assert result.outcome is Outcome.SUCCEEDED
    assert world.timers() == 0


@pytest.mark.parametrize("copies", [3])
def test_copies_are_one(copies: int) -> None:
    world = a_world()
    alert = crash_of(world)
    for _ in range(copies):
        world.alert(*[alert] * copies)
        world.run_for(20 * SECOND)

    assert len(world.calls("evict")) == 1
    assert len(world.granted()) == 1


def test_without_policies_nothing_is_done_and_it_is_said_what_would_be() -> None:
    world = World()
    world.cluster.add_workload(DEPLOYMENT, "shop", "payments", replicas=3)
    world.table(PAYMENTS, pods(world))
    world.alert(crash_of(world))

    world.run_for(2 * MINUTE)

    assert world.cluster.calls == []
    assert world.kinds() == ["waiting", "shadow"]
    assert world.decisions[-1].action is not None


def test_a_resolved_alert_never_acts() -> None:
    world = a_world()
    alert = crash_of(world)
    world.alert(alert, crash_of(world, resolved=True, starts_at=alert.starts_at))

    world.run_for(2 * MINUTE)

    assert world.cluster.calls == []
    assert world.timers() == 0


def test_one_that_ends_before_the_grant_is_let_go() -> None:
    world = a_world()
    world.table(PAYMENTS, pods(world)[:1])  # the last replica: it waits
    alert = crash_of(world)
    world.alert(alert)
    world.run_for(20 * SECOND)
    assert world.kinds()[-1] == "last-replicas"

    world.alert(crash_of(world, resolved=True, starts_at=alert.starts_at))
    world.run_for(5 * SECOND)
    world.table(PAYMENTS, pods(world))
    world.run_for(2 * MINUTE)

    assert world.calls("evict") == []
    assert [result.outcome for result in world.results] == [Outcome.NOT_DONE]
    assert "cancelled" in world.kinds()
    assert world.timers() == 0


@pytest.mark.parametrize("seconds", range(0, 24, 1))
@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_crash_of_the_job_at_any_moment_leaves_one_effect(seconds: int, checkpoints: bool) -> None:
    world = a_world()
    pod = pods(world)[0]
    world.checkpoint()
    world.alert(crash_of(world))
    for second in range(seconds):
        world.run_for(SECOND, step_ms=250)
        if checkpoints and second % 3 == 0:
            world.checkpoint()
    world.crash()

    world.run_for(40 * SECOND)

    assert world.calls("evict") == [f"shop/{pod}"]
    assert {result.id for result in world.results} == {world.granted()[0].action.id}  # type: ignore[union-attr]
    assert {result.outcome for result in world.results} == {Outcome.SUCCEEDED}
    assert world.timers() == 0


class TestSwitch:
    def test_off_nothing_is_done_and_on_it_is(self) -> None:
        world = a_world()
        world.switch(False)
        world.run_for(2 * SECOND)
        world.alert(crash_of(world))
        world.run_for(MINUTE)
        assert world.cluster.calls == []
        assert "kill-switch" in world.kinds()

        world.switch(True)
        world.run_for(MINUTE)

        assert len(world.calls("evict")) == 1

    def test_between_grant_and_call_it_holds(self) -> None:
        world = a_world()
        world.cluster.add_budget("shop", {"app": "payments"}, 3)  # so that the eviction waits
        world.alert(crash_of(world))
        world.run_for(10 * SECOND)
        assert len(world.granted()) == 1

        world.switch(False)
        world.run_for(2 * SECOND)
        world.cluster.budgets.clear()
        world.run_for(2 * MINUTE)
        assert world.calls("evict") == []

        world.switch(True)
        world.run_for(MINUTE)
        assert len(world.calls("evict")) == 1

    def test_unreadable_is_off_within_ten_seconds(self) -> None:
        world = a_world()
        world.readable = False
        world.run_for(11 * SECOND)
        world.alert(crash_of(world))
        world.run_for(2 * MINUTE)

        assert world.cluster.calls == []
        assert "config-unknown" in world.kinds()


class TestTables:
    def test_an_unknown_table_is_waited_for(self) -> None:
        world = World()
        world.cluster.add_workload(DEPLOYMENT, "shop", "payments", replicas=3)
        world.cluster.add_service("shop", "payments", {"app": "payments"})
        world.policies(ACTING % "act")
        world.alert(crash_of(world))
        world.run_for(30 * SECOND)
        assert world.kinds()[-1] == "table-unknown"
        assert world.cluster.calls == []

        world.table(PAYMENTS, pods(world))
        world.run_for(MINUTE)

        assert len(world.calls("evict")) == 1

    def test_a_gap_in_the_log_makes_it_unknown_until_a_snapshot(self) -> None:
        world = a_world()
        world.table(PAYMENTS, pods(world), gap=True)
        world.alert(crash_of(world))
        world.run_for(30 * SECOND)
        assert world.kinds()[-1] == "table-unknown"

        world.table(PAYMENTS, pods(world), snapshot=True)
        world.run_for(MINUTE)
        assert len(world.calls("evict")) == 1

    @pytest.mark.parametrize("node", [False, True])
    def test_nothing_is_granted_before_the_tables_are_read(self, node: bool) -> None:
        """A node without known tables looks like one without endpoints; it may be that they are not read yet."""
        world = World(settle_ms=SETTLE_MS)
        world.cluster.add_node("n1")
        world.cluster.add_node("n2")
        world.cluster.add_workload(DEPLOYMENT, "shop", "payments", replicas=1, node="n1")
        world.cluster.add_service("shop", "payments", {"app": "payments"})
        world.policies(ACTING % "act")
        world.alert(a_node_alert("n1", starts_at=T0) if node else crash_of(world))
        for _ in range(8):
            world.run_for(5 * SECOND)
            # An old change at a time: the job is behind.
            world.behind_ms = MINUTE
            world.table(PAYMENTS, [*pods(world), "gone-since"])
        assert world.granted() == []
        assert world.kinds()[-1] == "table-unknown"

        world.behind_ms = 0
        world.table(PAYMENTS, pods(world))
        world.run_for(MINUTE)

        assert world.calls("evict") == []
        assert len(world.granted()) == node

    def test_the_last_replica_stays(self) -> None:
        world = a_world(replicas=1)
        world.alert(crash_of(world))

        world.run_for(2 * MINUTE)

        assert world.cluster.calls == []
        assert "last-replicas" in world.kinds()

    def test_a_grant_that_stood_still_looks_at_the_table_as_it_is(self) -> None:
        world = a_world()
        world.alert(crash_of(world))
        for _ in range(100):
            if not world.granted():
                world.run_for(100, step_ms=100)
        world.switch(False)
        assert world.granted()
        assert world.calls("evict") == []
        world.run_for(8 * MINUTE, step_ms=5_000)
        world.table(PAYMENTS, pods(world)[:1])

        world.switch(True)
        world.run_for(MINUTE)

        assert world.calls("evict") == []
        assert [(one.outcome, one.detail.split(":")[0]) for one in world.results] == [
            (Outcome.NOT_DONE, "last-replicas")
        ]

    def test_success_is_the_endpoint_back_in_the_table(self) -> None:
        world = a_world()
        world.alert(crash_of(world))
        while not world.calls("evict"):
            world.run_for(SECOND)
        world.table(PAYMENTS, pods(world)[:2])
        world.run_for(MINUTE)
        assert world.results == []

        world.table(PAYMENTS, pods(world))
        world.run_for(20 * SECOND)

        assert [result.outcome for result in world.results] == [Outcome.SUCCEEDED]

    def test_tables_survive_a_crash(self) -> None:
        world = a_world()
        world.checkpoint()
        world.log.clear()
        world._read = world._saved.read = 0
        world.crash()
        world.alert(crash_of(world))

        world.run_for(MINUTE)

        assert len(world.calls("evict")) == 1


class TestNodes:
    def test_a_failed_node_is_emptied_and_given_back_when_the_alert_ends(self) -> None:
        world = a_world()
        other = ServiceKey("shop", "other")
        for n in (2, 3, 4):
            world.table(ServiceKey("shop", f"s{n}"), [f"s{n}-1"], node=f"n{n}")
        world.table(other, ["a", "b"], node="n2")
        world.table(PAYMENTS, [*pods(world), "elsewhere"], node="n1")
        world.table(PAYMENTS, [*pods(world)], node="n1")
        world.table(PAYMENTS, [*pods(world)], node="n1")
        alert = a_node_alert("n1", starts_at=world.clock.wall)
        world.cluster.add_workload(DEPLOYMENT, "shop", "web", replicas=2, node="n1")
        world.alert(alert)
        world.run_for(MINUTE)

        node = world.cluster.node("n1")
        assert node is not None
        assert node.unschedulable
        # All of the service's endpoints are there: they are left alone, and the rest is done.
        assert {about.split("-")[0] for about in world.calls("evict")} <= {"shop/web"}

        world.alert(a_node_alert("n1", resolved=True, starts_at=alert.starts_at))
        world.run_for(MINUTE)

        node = world.cluster.node("n1")
        assert node is not None
        assert not node.unschedulable
        assert not node.annotations
        assert [d.kind.value for d in world.granted()] == ["act", "undo"]

    def test_isolation_comes_with_the_cordon_and_goes_with_it(self) -> None:
        world = a_world()
        world.table(PAYMENTS, ["x"], node="n2")
        alert = a_node_alert("n1", starts_at=world.clock.wall)
        world.alert(alert)
        world.run_for(MINUTE)
        world.alert(a_node_alert("n1", resolved=True, starts_at=alert.starts_at))
        world.run_for(MINUTE)

        assert [(w.verb, w.node) for w in world.isolations] == [(Verb.ISOLATE, "n1"), (Verb.RELEASE, "n1")]
        assert {pod.node for pod in world.cluster.all_pods()} == {"n2", "n3", "n4"}

    @pytest.mark.parametrize("seconds", range(20))
    @pytest.mark.parametrize("resolved_first", [False, True])
    def test_a_crash_of_the_job_leaves_no_node_out_of_service_for_ever(
        self, seconds: int, resolved_first: bool
    ) -> None:
        world = a_world()
        world.table(PAYMENTS, ["x"], node="n2")
        world.checkpoint()
        alert = a_node_alert("n1", starts_at=world.clock.wall)
        world.alert(alert)
        world.run_for(seconds * SECOND, step_ms=500)
        over = a_node_alert("n1", resolved=True, starts_at=alert.starts_at)
        if resolved_first:
            world.log.append(("alerts", alert_key(over), encode_alert(over)))
            world.crash()
        else:
            world.crash()
            world.alert(over)
        world.run_for(3 * MINUTE)

        node = world.cluster.node("n1")
        assert node is not None
        assert not node.unschedulable
        assert not node.annotations
        assert not world.isolations or world.isolations[-1].verb is Verb.RELEASE
        assert world.timers() == 0

    def test_three_quarters_of_the_nodes_falsely_failed_stop_at_the_budget(self) -> None:
        world = World()
        for n in range(20):
            world.cluster.add_node(f"m{n}")
            world.table(ServiceKey("shop", f"s{n}"), ["a"], node=f"m{n}")
            world.table(ServiceKey("shop", "wide"), [f"w{i}" for i in range(n + 1)], node=f"m{n}")
        world.policies(ACTING % "act")
        world.run_for(2 * SECOND)
        for n in range(15):
            world.alert(a_node_alert(f"m{n}", starts_at=world.clock.wall))

        world.run_for(40 * MINUTE, step_ms=5_000)

        cordoned = [name for n in range(20) if (node := world.cluster.node(name := f"m{n}")) and node.unschedulable]
        assert 1 <= len(cordoned) <= 4
        assert {"budget", "too-many-nodes"} & set(world.kinds())

    def test_a_person_s_uncordon_is_kept_for_the_same_alert(self) -> None:
        world = a_world()
        alert = a_node_alert("n4", starts_at=world.clock.wall)
        world.alert(alert)
        world.run_for(MINUTE)
        world.cluster.uncordon("n4")

        for _ in range(10):
            world.alert(alert)
            world.run_for(5 * MINUTE, step_ms=10_000)

        node = world.cluster.node("n4")
        assert node is not None
        assert not node.unschedulable


class TestRestarts:
    def a_drain_cut_short(self) -> World:
        """The job is away for 5 min in the middle of a drain, and its timers are overdue when it is back."""
        world = a_world()
        world.settles = False  # no pod is made anew: the drain is not over in one round
        world.cluster.add_workload(DEPLOYMENT, "shop", "web", replicas=60, node="n1")
        world.alert(a_node_alert("n1", starts_at=T0))
        for _ in range(60):
            if not world.calls("evict"):
                world.run_for(SECOND)
        assert 0 < len(world.calls("evict")) < 50
        world.settle_ms = SETTLE_MS
        world.checkpoint()
        world.clock.wall += 5 * MINUTE
        world.crash()
        return world

    def test_the_end_of_its_alert_is_heard_before_it_goes_on(self) -> None:
        world = self.a_drain_cut_short()
        evicted = world.calls("evict")
        world.run_for(5 * SECOND)

        world.alert(a_node_alert("n1", starts_at=T0, resolved=True))
        world.run_for(2 * MINUTE)

        node = world.cluster.node("n1")
        assert node is not None
        assert world.calls("evict") == evicted
        assert not node.unschedulable

    def test_without_news_it_goes_on(self) -> None:
        world = self.a_drain_cut_short()
        evicted = len(world.calls("evict"))

        world.run_for(SETTLE_MS - SECOND)
        assert len(world.calls("evict")) == evicted
        world.run_for(2 * MINUTE)

        assert len(world.calls("evict")) > evicted


class TestPeople:
    def test_approval_is_waited_for_and_acts_once(self) -> None:
        world = a_world(mode="approve")
        world.alert(crash_of(world))
        world.run_for(20 * SECOND)
        assert world.kinds()[-1] == "needs-approval"
        assert world.cluster.calls == []
        action = world.decisions[-1].action
        assert action is not None

        for _ in range(3):
            world.say(
                approval_config(
                    ApprovalFor(
                        target=Target(*PAYMENTS), approval=Approval(action.id, "anna", world.clock.wall, action.plan)
                    )
                )
            )
        world.run_for(MINUTE)

        assert len(world.calls("evict")) == 1

    def test_an_approval_of_another_action_is_none(self) -> None:
        world = a_world(mode="approve")
        world.alert(crash_of(world))
        world.run_for(20 * SECOND)

        world.say(
            approval_config(
                ApprovalFor(target=Target(*PAYMENTS), approval=Approval("f" * 32, "anna", world.clock.wall))
            )
        )
        world.run_for(MINUTE)

        assert world.cluster.calls == []

    def test_a_target_with_its_attempts_used_is_resumed_by_a_person(self) -> None:
        world = a_world()
        world.settles = False  # nothing ever comes back
        world.alert(crash_of(world))
        for _ in range(60):
            world.run_for(2 * MINUTE, step_ms=10_000)
            if "human-needed" in world.kinds():
                break
        assert "human-needed" in world.kinds()
        asked = world.kinds().count("ask")

        world.say(resume_config(Resumption(target=Target(*PAYMENTS), by="anna", at=world.clock.wall)))
        world.run_for(2 * MINUTE)

        assert world.kinds().count("ask") == asked + 1

    def test_a_policy_that_begins_to_act_needs_no_new_alert(self) -> None:
        world = a_world(mode="shadow")
        world.alert(crash_of(world))
        world.run_for(MINUTE)
        assert world.cluster.calls == []

        world.policies(ACTING % "act")
        world.run_for(MINUTE)

        assert len(world.calls("evict")) == 1

    def test_a_refused_document_leaves_the_old_one_in_force(self) -> None:
        world = a_world()
        world.policies("policies: [")
        world.run_for(2 * SECOND)
        world.alert(crash_of(world))
        world.run_for(MINUTE)

        assert len(world.calls("evict")) == 1


def test_of_two_alerts_of_a_node_the_last_gives_it_back() -> None:
    """An Alertmanager calls one dead node `KubeNodeNotReady` and `KubeNodeUnreachable`."""
    world = a_world()
    world.alert(*(a_node_alert("n4", fingerprint=name, starts_at=T0) for name in "ab"))
    world.run_for(12 * MINUTE, step_ms=10 * SECOND)
    assert world.cluster.node("n4").unschedulable  # type: ignore[union-attr]

    world.alert(a_node_alert("n4", fingerprint="a", starts_at=T0, resolved=True))
    world.run_for(5 * MINUTE, step_ms=10 * SECOND)
    assert world.cluster.node("n4").unschedulable  # type: ignore[union-attr]
    assert world.isolations
    assert all(word.verb is Verb.ISOLATE for word in world.isolations)

    world.alert(a_node_alert("n4", fingerprint="b", starts_at=T0, resolved=True))
    world.run_for(5 * MINUTE, step_ms=10 * SECOND)
    assert not world.cluster.node("n4").unschedulable  # type: ignore[union-attr]
    assert world.timers() == 0


def test_a_storm_of_copies_stays_within_the_budget() -> None:
    world = World()
    for n in range(300):
        world.cluster.add_workload(DEPLOYMENT, "shop", f"s{n}", replicas=3)
        world.table(ServiceKey("shop", f"s{n}"), pods(world, f"s{n}"))
    world.policies(ACTING % "act")
    world.run_for(2 * SECOND)
    alerts = [
        an_alert(service=f"s{n}", pod=pods(world, f"s{n}")[0], fingerprint=f"f{n}", starts_at=world.clock.wall)
        for n in range(300)
    ]
    world.alert(*alerts, *alerts, *reversed(alerts))

    world.run_for(60 * SECOND, step_ms=10 * SECOND)

    under_way = len(world.granted()) - len(world.results)
    assert under_way <= 1, "a domain begins with one repair at a time"
    assert 1 <= len(world.calls("evict")) <= 12
    assert len(set(world.calls("evict"))) == len(world.calls("evict"))
    assert len({d.action.id for d in world.granted() if d.action}) == len(world.granted())


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        ("alerts", b"", "bad-json"),
        ("alerts", None, "tombstone"),
        ("alerts", b'{"type":"PodCrash","status":"firing","fingerprint":"f","startsAt":1,"pod":"../x"}', "bad-pod"),
        ("alerts", b'{"type":"PodCrash","status":"firing","fingerprint":"f","startsAt":1,"node":"*"}', "bad-node"),
        ("alerts", b'{"type":"{{ x }}","status":"firing","fingerprint":"f","startsAt":1}', "bad-type"),
        ("alerts", b'{"type":"P","status":"firing","fingerprint":"f","startsAt":1,"service":"a;b"}', "bad-service"),
        ("alerts", b'{"type":"P","status":"firing","fingerprint":"f","startsAt":1,"labels":"\xff"}', "bad-utf8"),
        ("alerts", b"{" + b" " * MAX_BYTES + b"}", "oversize"),
        ("repair-results", b"{}", "steps-missing"),
        ("route-changes", None, "tombstone"),
    ],
)
def test_poison_is_a_dead_letter_and_the_rest_goes_on(topic: str, value: bytes | None, reason: str) -> None:
    world = a_world()
    world.raw(topic, b"k", value)
    world.alert(crash_of(world))
    world.run_for(30 * SECOND)

    assert world.dead == [reason]
    assert len(world.calls("evict")) == 1


def test_an_alert_as_large_as_may_be_is_decided_like_any_other() -> None:
    """Written anew it would be longer, for what it does not say is null then."""
    world = a_world()
    alert = crash_of(world)
    doc = {name: value for name, value in alert_fields(alert).items() if value}
    filled = orjson.dumps(doc | {"x": ""})
    doc["x"] = "x" * (MAX_BYTES - len(filled))

    world.raw("alerts", alert_key(alert), orjson.dumps(doc))
    world.run_for(30 * SECOND)

    assert world.dead == []
    assert len(world.calls("evict")) == 1


def test_signs_beyond_the_basic_plane_travel() -> None:
    """Between operators is Java, which takes a text as modified UTF-8."""
    world = a_world()
    world.alert(crash_of(world, labels={"owner": "\U0001f40d \u4e2d\u6587 \xe9"}, annotations={"x": "\U0010ffff"}))
    world.run_for(30 * SECOND)

    assert len(world.calls("evict")) == 1
    assert world.carried, "rows between operators were looked at"
    assert all(ord(sign) < 256 and sign != "\0" for text in world.carried for sign in text)


def test_an_alert_without_a_namespace_is_nothing_s_and_never_all() -> None:
    world = a_world()
    world.alert(an_alert(namespace="", starts_at=T0), an_alert(service="", namespace="", pod="", starts_at=T0))
    world.run_for(MINUTE)

    assert world.cluster.calls == []
    assert world.kinds() == ["no-namespace", "no-target"]
