"""Whatever fails, whenever state is lost and however often an order comes: one effect per action, and an honest end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.repair.played import Played, an_action
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import Do, Step
from waypost.model.surroundings import Surroundings
from waypost.repair.objects import DEPLOYMENT, STATEFUL_SET
from waypost.repair.port import CallFailed, Conflict, Denied, NotNow, Refused, Unavailable

CALLS = ["pod", "pods", "workload", "workload_of", "service_selector", "change_workload", "evict", "tell"]
ERRORS: list[CallFailed] = [Unavailable("500"), Unavailable("timeout"), Conflict("409"), NotNow("429"), Denied("403")]
STEPS = {
    "evict": Step.of(Do.EVICT_POD),
    "restart": Step.of(Do.RESTART),
    "scale": Step.of(Do.SCALE, by=1, at_most=9),
    "notify": Step.of(Do.NOTIFY),
    "isolate": Step.of(Do.ISOLATE, for_seconds=600),
}

mishaps = st.one_of(
    st.tuples(st.just("fault"), st.sampled_from(CALLS), st.sampled_from(ERRORS), st.booleans()),
    st.tuples(st.just("forbidden"), st.sampled_from(CALLS), st.just(Refused("422")), st.booleans()),
    st.just(("save",)),
    st.just(("crash",)),
    st.just(("again",)),
    st.just(("touch",)),
    st.just(("off",)),
    st.just(("on",)),
    st.just(("cancel",)),
    st.just(("turn",)),
)


@settings(max_examples=600)
@given(
    kind=st.sampled_from([DEPLOYMENT, STATEFUL_SET]),
    steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=3, unique=True),
    story=st.lists(mishaps, max_size=25),
)
def test_one_effect_per_action(kind: str, steps: list[str], story: list[tuple]) -> None:  # type: ignore[type-arg]
    played = Played()
    cluster = played.cluster
    cluster.add_node("n1")
    cluster.add_workload(kind, "shop", "payments", replicas=3)
    cluster.add_service("shop", "payments", {"app": "payments"})
    before = {pod.name: pod.uid for pod in cluster.all_pods()}
    pod = sorted(before)[0]
    action = an_action(*(STEPS[name] for name in steps), pod=pod)
    around = Surroundings(instances=(pod,), healthy=3)
    played.give(action, around)
    played.save()

    for what, *more in story:
        if what in ("fault", "forbidden"):
            call, error, after = more
            cluster.fail(call, error, after=after)
        elif what == "save":
            played.save()
        elif what == "crash":
            played.crash()
        elif what == "again":
            played.give(action, around)
        elif what == "touch":
            cluster.touch(kind, "shop", "payments")
        elif what == "cancel":
            played.cancel()
        else:
            played.enabled = what != "off" and (what == "on" or played.enabled)
        played.turn()
    played.enabled = True
    result = played.to_the_end() if played.work.running else played.results[-1]
    cluster.heal()

    workload = cluster.workload(kind, "shop", "payments")
    assert workload is not None
    restarts = cluster.restarts.get(f"{kind.lower()} shop/payments", 0)
    assert len(played.evictions()) <= ("evict" in steps)
    assert set(played.evictions()) <= {f"shop/{pod}"}
    assert restarts <= ("restart" in steps)
    assert workload.replicas <= 3 + ("scale" in steps)
    assert len({(word.instance, word.expires_at) for word in played.isolations}) <= ("isolate" in steps)
    ended = {one.outcome for one in played.results}
    if Outcome.NOT_DONE in ended and len(ended) == 1:
        assert not played.evictions()
        assert restarts == 0
        assert workload.replicas == 3
    if result.outcome is Outcome.SUCCEEDED and not any(what == "cancel" for what, *_ in story):
        assert len(played.evictions()) == ("evict" in steps) or "restart" in steps
        assert restarts == ("restart" in steps)
    gone = [name for name, uid in before.items() if uid not in {one.uid for one in cluster.all_pods()}]
    if "restart" not in steps:
        assert len(gone) <= ("evict" in steps)
