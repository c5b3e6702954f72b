"""Symptoms that come one after the other, and what becomes of an incident."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import MINUTE, PAYMENTS, SECOND, T0, an_alert
from waypost.model.alert import NODE_FAILURE, Alert
from waypost.model.census import About, Cause, Census, InstanceId, Known
from waypost.model.incident_fold import ALERTED_MS, KEPT_MS, OPEN_MS, IncidentFold, Part
from waypost.model.names import ServiceKey

CART = ServiceKey("shop", "cart")


def a_fold(nodes: int = 4, each: int = 2) -> IncidentFold:
    census = Census()
    for n in range(1, nodes + 1):
        for service in (PAYMENTS, CART):
            for i in range(each):
                census.join(InstanceId(service, f"{service.service}-{n}-{i}"), Known(f"n{n}", "", "1"))
    return IncidentFold(census, {}, {})


def crash(pod: str, *, at: int = T0, resolved: bool = False) -> Alert:
    service = pod.partition("-")[0]
    return an_alert(service=service, pod=pod, fingerprint=f"f-{pod}", starts_at=at, resolved=resolved)


ON_N1 = ("payments-1-0", "payments-1-1", "cart-1-0", "cart-1-1")


def test_alerts_of_one_node_become_one_alert_about_it_and_each_hears_of_it() -> None:
    fold = a_fold()
    for pod in ON_N1[:3]:
        assert fold.on_alert(crash(pod), T0) == []

    *parts, alert = fold.on_time(T0 + SECOND)

    assert isinstance(alert, Alert)
    assert (alert.type, alert.node, alert.firing) == (NODE_FAILURE, "n1", True)
    assert all(isinstance(part, Part) and part.incident == alert.fingerprint for part in parts)
    assert {(str(p.target), p.fingerprints) for p in parts if isinstance(p, Part)} == {
        ("shop/cart", ("f-cart-1-0",)),
        ("shop/payments", ("f-payments-1-0", "f-payments-1-1")),
    }
    assert fold.on_time(T0 + 2 * SECOND) == []


def test_one_that_comes_later_joins_and_is_told_again_when_it_begins_again() -> None:
    fold = a_fold()
    for pod in ON_N1[:3]:
        fold.on_alert(crash(pod), T0)
    fold.on_time(T0 + SECOND)

    for at in (T0 + MINUTE, T0 + 2 * MINUTE):
        [part] = fold.on_alert(crash(ON_N1[3], at=at), at)
        assert isinstance(part, Part)
        assert part.fingerprints == ("f-cart-1-1",)
    assert fold.on_time(T0 + 3 * MINUTE) == []


def test_it_is_over_with_the_last_of_its_alerts() -> None:
    fold = a_fold()
    for pod in ON_N1:
        fold.on_alert(crash(pod), T0)
    alert = fold.on_time(T0 + SECOND)[-1]

    told = [one for pod in ON_N1 for one in fold.on_alert(crash(pod, resolved=True), T0 + MINUTE)]

    [end] = told
    assert isinstance(end, Alert)
    assert isinstance(alert, Alert)
    assert (end.fingerprint, end.starts_at, end.firing) == (alert.fingerprint, alert.starts_at, False)
    assert not fold.open


def test_ends_of_leases_are_an_incident_too_and_it_is_over_when_they_are_back() -> None:
    fold = a_fold()
    gone = [InstanceId(PAYMENTS, "payments-1-0"), InstanceId(PAYMENTS, "payments-1-1"), InstanceId(CART, "cart-1-0")]
    known = {subject: fold.census[subject] for subject in gone}
    for subject in gone:
        fold.census.lapse(subject, T0)
        fold.on_lapse(subject, T0)

    [alert] = fold.on_time(T0 + SECOND)
    assert isinstance(alert, Alert)
    assert alert.node == "n1"

    told = []
    for subject in gone:
        fold.census.join(subject, known[subject])
        told += fold.on_return(subject)
    [end] = told
    assert isinstance(end, Alert)
    assert not end.firing


def silent_node(fold: IncidentFold) -> Alert:
    """Three instances of n1 fall silent, and nobody raises an alert."""
    for subject in GONE:
        fold.census.lapse(subject, T0)
        fold.on_lapse(subject, T0)
    [alert] = fold.on_time(T0 + SECOND)
    assert isinstance(alert, Alert)
    return alert


GONE = [InstanceId(PAYMENTS, "payments-1-0"), InstanceId(PAYMENTS, "payments-1-1"), InstanceId(CART, "cart-1-0")]


def arrives(fold: IncidentFold, service: ServiceKey, name: str, known: Known) -> list[Alert | Part]:
    fold.census.join(InstanceId(service, name), known)
    return fold.on_return(InstanceId(service, name))


def test_others_on_the_node_stand_for_those_that_are_gone() -> None:
    fold = a_fold()
    alert = silent_node(fold)

    for n in range(9):
        assert arrives(fold, PAYMENTS, f"elsewhere-{n}", Known("n2", "", "1")) == []
    assert arrives(fold, PAYMENTS, "new-1", Known("n1", "", "2")) == []
    assert arrives(fold, ServiceKey("shop", "other"), "new-2", Known("n1")) == []
    [end] = arrives(fold, CART, "new-3", Known("n1", "", "1"))

    assert isinstance(end, Alert)
    assert (end.fingerprint, end.starts_at, end.firing) == (alert.fingerprint, alert.starts_at, False)
    assert not fold.open


def test_a_version_that_is_rolled_back_is_over() -> None:
    fold = a_fold()
    of_v2 = [InstanceId(PAYMENTS, f"canary-{n}") for n in range(3)]
    for n, subject in enumerate(of_v2):
        fold.census.join(subject, Known(f"m{n}", "", "2"))
        fold.census.lapse(subject, T0)
        fold.on_lapse(subject, T0)
    [alert] = fold.on_time(T0 + SECOND)
    assert isinstance(alert, Alert)
    assert alert.service == "payments"

    assert arrives(fold, CART, "cart-9", Known("m1", "", "2")) == []
    ends = [told for n in range(3) for told in arrives(fold, PAYMENTS, f"payments-9-{n}", Known("m1", "", "1"))]
    assert [one.firing for one in ends if isinstance(one, Alert)] == [False]


def test_silence_alone_is_over_after_an_hour_and_leaves_nothing() -> None:
    fold = a_fold()
    alert = silent_node(fold)

    [end] = fold.on_time(T0 + SECOND + OPEN_MS)
    assert isinstance(end, Alert)
    assert (end.fingerprint, end.firing) == (alert.fingerprint, False)
    assert not fold.open


def test_while_an_alert_fires_nobodys_return_ends_it() -> None:
    fold = a_fold()
    gone = InstanceId(CART, "cart-1-0")
    fold.census.lapse(gone, T0)
    fold.on_lapse(gone, T0)
    for pod in ON_N1[:2]:
        fold.on_alert(crash(pod), T0)
    fold.on_time(T0 + SECOND)

    assert fold.on_return(gone) == []
    assert len(fold.open) == 1


def test_alerts_without_an_end_are_free_again_after_half_a_day_and_what_was_done_is_taken_back() -> None:
    fold = a_fold()
    for pod in ON_N1:
        fold.on_alert(crash(pod), T0)
    fold.on_time(T0)
    assert fold.on_time(T0 + OPEN_MS) == []
    assert fold.next_at() == T0 + ALERTED_MS

    told = fold.on_time(T0 + ALERTED_MS)

    assert {one.incident for one in told if isinstance(one, Part)} == {""}
    assert [one.firing for one in told if isinstance(one, Alert)] == [False]
    assert not fold.open


def test_one_that_comes_and_goes_makes_up_for_one() -> None:
    fold = a_fold()
    silent_node(fold)

    for _ in range(9):
        assert arrives(fold, PAYMENTS, "flaps", Known("n1", "", "1")) == []


def test_a_version_does_not_become_well_by_more_of_it() -> None:
    fold = a_fold()
    for n in range(3):
        subject = InstanceId(PAYMENTS, f"canary-{n}")
        fold.census.join(subject, Known(f"m{n}", "", "2"))
        fold.census.lapse(subject, T0)
        fold.on_lapse(subject, T0)
    fold.on_time(T0 + SECOND)

    for n in range(9):
        assert arrives(fold, PAYMENTS, f"canary-new-{n}", Known("m1", "", "2")) == []


def test_alerts_that_are_told_late_are_compared_by_when_they_began() -> None:
    fold = a_fold()
    for n, pod in enumerate(ON_N1[:3]):
        fold.on_alert(crash(pod, at=T0 + n), T0 + n * MINUTE)

    [*_, alert] = fold.on_time(T0 + 2 * MINUTE + SECOND)

    assert isinstance(alert, Alert)
    assert alert.starts_at == T0


def test_few_or_far_apart_or_unknown_are_decided_on_their_own_and_forgotten() -> None:
    fold = a_fold()
    fold.on_alert(crash(ON_N1[0]), T0)
    fold.on_alert(crash(ON_N1[1]), T0)
    fold.on_alert(crash(ON_N1[2], at=T0 + 11 * SECOND), T0 + 11 * SECOND)
    for n in range(9):
        fold.on_alert(crash(f"payments-ghost-{n}"), T0)
    assert fold.on_time(T0 + 12 * SECOND) == []

    assert fold.on_time(T0 + 12 * SECOND + KEPT_MS) == []
    assert not fold.symptoms
    assert fold.next_at() is None


def test_the_census_forgets_who_is_long_gone_and_counts_the_rest() -> None:
    census = a_fold().census
    subject = InstanceId(PAYMENTS, "payments-1-0")
    census.lapse(subject, T0)
    census.forget(T0)
    assert census.size(Cause(About.NODE, "n1")) == 4

    census.forget(T0 + 1)

    assert census.size(Cause(About.NODE, "n1")) == 3
    assert census.of_pod(PAYMENTS, "payments-1-0") is None


@LAW
@given(
    st.lists(st.tuples(st.sampled_from(ON_N1), st.integers(0, 5 * SECOND), st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_order_and_copies_of_alerts_change_no_incident(told: list[tuple[str, int, bool]], random: Random) -> None:
    """Of each pod the first mention counts: it is one fault."""
    alerts = list({pod: crash(pod, at=T0 + at) for pod, at, _ in told}.values())
    one, other = a_fold(), a_fold()
    shuffled = alerts * 2
    random.shuffle(shuffled)

    for alert in alerts:
        one.on_alert(alert, T0 + 6 * SECOND)
    for alert in shuffled:
        other.on_alert(alert, T0 + 6 * SECOND)

    assert set(map(str, one.on_time(T0 + 7 * SECOND))) == set(map(str, other.on_time(T0 + 7 * SECOND)))
    assert one.open == other.open


@LAW
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["n1", "n2", ""]), st.booleans()), max_size=30))
def test_the_census_counts_what_a_count_from_scratch_would(moves: list[tuple[int, str, bool]]) -> None:
    census, there = Census(), dict[InstanceId, Known]()
    for n, node, joins in moves:
        subject = InstanceId(PAYMENTS, f"p{n}")
        if joins:
            there[subject] = Known(node, "", "12"[n % 2])
            census.join(subject, there[subject])
        else:
            there.pop(subject, None)
            census.leave(subject)

    for node in ("n1", "n2"):
        assert census.size(Cause(About.NODE, node)) == sum(known.node == node for known in there.values())
    assert census.versions(PAYMENTS) == len({known.version for known in there.values()})
