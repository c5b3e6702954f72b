"""Many symptoms, one cause."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import PAYMENTS, SECOND, T0
from waypost.model.alert import CONFIG_REGRESSION, NODE_FAILURE
from waypost.model.census import About, Census, InstanceId, Known
from waypost.model.incident import Incident, IncidentRules, Symptom, as_alert, incidents
from waypost.model.names import ServiceKey

RULES = IncidentRules()
CART = ServiceKey("shop", "cart")


def fleet(nodes: int = 4, each: int = 4, version: str = "1") -> dict[InstanceId, Known]:
    """Nodes n0, n1, … in zones a and b in turn, with instances of two services each."""
    return {
        InstanceId(service, f"{service.service}-{n}-{i}"): Known(f"n{n}", "ab"[n % 2], version)
        for n in range(nodes)
        for i in range(each // 2)
        for service in (PAYMENTS, CART)
    }


def found_in(
    symptoms: Iterable[Symptom], known: dict[InstanceId, Known], rules: IncidentRules, now: int
) -> list[Incident]:
    return incidents(symptoms, Census.of(known), rules, now)


def on(node: str, known: dict[InstanceId, Known], at: int = T0) -> list[Symptom]:
    return [Symptom(subject, at + n, f"f{n}") for n, subject in enumerate(known) if known[subject].node == node]


def test_everything_on_one_node_is_an_incident_about_the_node() -> None:
    known = fleet()
    [incident] = found_in(on("n1", known), known, RULES, T0 + SECOND * 5)

    assert (incident.about, incident.name) == (About.NODE, "n1")
    assert len(incident.fingerprints) == 4
    alert = as_alert(incident)
    assert alert is not None
    assert (alert.type, str(alert.target), alert.starts_at) == (NODE_FAILURE, "node/n1", incident.since)


def test_two_of_four_are_too_few_and_three_of_eight_too() -> None:
    small, large = fleet(), fleet(each=8)

    assert found_in(on("n1", small)[:2], small, RULES, T0 + SECOND) == []
    assert found_in(on("n1", large)[:3], large, RULES, T0 + SECOND) == []


def test_symptoms_far_apart_have_nothing_in_common() -> None:
    known = fleet()
    symptoms = [Symptom(s.subject, T0 + n * 10 * SECOND) for n, s in enumerate(on("n1", known))]

    for n in range(4):
        assert found_in(symptoms, known, RULES, T0 + n * 10 * SECOND) == []


def test_a_zone_explains_more_than_its_nodes() -> None:
    known = fleet()
    [incident] = found_in(on("n0", known) + on("n2", known), known, RULES, T0 + SECOND)

    assert (incident.about, incident.name) == (About.ZONE, "a")
    assert as_alert(incident) is None


def test_two_nodes_of_different_zones_are_two_incidents() -> None:
    known = fleet(nodes=8)
    found = found_in(on("n0", known) + on("n1", known), known, RULES, T0 + SECOND)

    assert [(i.about, i.name) for i in found] == [(About.NODE, "n0"), (About.NODE, "n1")]


def test_a_new_version_that_fails_everywhere_is_an_incident_about_it() -> None:
    known = {InstanceId(PAYMENTS, f"p{n}"): Known(f"n{n}", "", "2" if n < 3 else "1") for n in range(6)}
    symptoms = [Symptom(InstanceId(PAYMENTS, f"p{n}"), T0, "f") for n in range(3)]
    [incident] = found_in(symptoms, known, RULES, T0)

    assert (incident.about, incident.name) == (About.VERSION, "shop/payments@2")
    alert = as_alert(incident)
    assert alert is not None
    assert (alert.type, str(alert.target), alert.labels["version"]) == (CONFIG_REGRESSION, "shop/payments", "2")


def test_a_version_is_not_blamed_when_it_is_the_only_one_or_another_fails_too() -> None:
    only = {InstanceId(PAYMENTS, f"p{n}"): Known(f"n{n}", "", "1") for n in range(6)}
    both = {InstanceId(PAYMENTS, f"p{n}"): Known(f"n{n}", "", "12"[n % 2]) for n in range(6)}

    for known in (only, both):
        assert found_in([Symptom(s, T0) for s in known], known, RULES, T0) == []


def test_instances_that_nobody_knows_prove_nothing() -> None:
    symptoms = [Symptom(InstanceId(PAYMENTS, f"ghost-{n}"), T0) for n in range(9)]

    assert found_in(symptoms, fleet(), RULES, T0) == []


@LAW
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 20 * SECOND), st.sampled_from(["", "f1", "f2"]))),
    st.randoms(use_true_random=False),
)
def test_order_and_copies_do_not_matter_and_nobody_is_explained_twice(
    told: list[tuple[int, int, str]], random: Random
) -> None:
    known = fleet()
    subjects = list(known)
    symptoms = [Symptom(subjects[n], T0 + at, fingerprint) for n, at, fingerprint in told]
    shuffled = symptoms * 2
    random.shuffle(shuffled)

    found = found_in(symptoms, known, RULES, T0 + 15 * SECOND)

    assert found == found_in(shuffled, known, RULES, T0 + 15 * SECOND)
    explained = [subject for incident in found for subject in {m.subject for m in incident.members}]
    assert len(explained) == len(set(explained))
    assert all(m in symptoms for incident in found for m in incident.members)
