"""Policy documents: taken whole or refused whole, with every problem named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.wire.repairs import POLICY_SETS
from waypost.errors import PolicyError
from waypost.model.repair_policy import DEFAULT_POLICIES, Mode, PolicySet, Window
from waypost.wire.policies import MAX_BYTES, decode_policies, encode_policies

YAML = """\
version: 2026-11-22.1
maintenance:
  - {days: [sat, sun], from: 22:00, to: 06:00}
policies:
  - name: crashes
    match: {types: [PodCrash], namespaces: [shop, team-*]}
    steps: [{do: evict-pod}]
    mode: act
    cooldown_seconds: 600
"""


@LAW
@given(POLICY_SETS)
def test_policies_come_back(policies: PolicySet) -> None:
    assert decode_policies(encode_policies(policies)) == policies


def test_the_defaults_are_a_document() -> None:
    found = decode_policies(encode_policies(DEFAULT_POLICIES))

    assert [policy.name for policy in found.policies] == [policy.name for policy in DEFAULT_POLICIES.policies]


def test_a_document_in_yaml() -> None:
    found = decode_policies(YAML)
    [policy] = found.policies

    assert (policy.mode, policy.cooldown_ms, policy.max_attempts) == (Mode.ACT, 600_000, 3)
    assert policy.namespaces == ("shop", "team-*")
    assert policy.guards.version == "2026-11-22.1"
    assert policy.guards.maintenance == (Window(days=frozenset({5, 6}), begin=22 * 60, end=6 * 60),)


def problems(document: str | bytes) -> dict[str, str]:
    with pytest.raises(PolicyError) as caught:
        decode_policies(document)
    return dict(caught.value.problems)


def test_every_problem_is_named_with_its_path() -> None:
    found = problems(
        """
        policies:
          - name: Crashes
            match: {types: [], namespace: [shop]}
            steps: [{do: evict-pod, force: true}, {do: cordon}, {do: explode}, {do: scale, at_most: 9999}]
            mode: on
            max_attempts: 0
            cooldown: 5m
          - {name: b, match: {types: [T], scope: node, namespaces: [a]}, steps: []}
          - {name: b, match: {types: [T], namespaces: ["a*b"]}, steps: [{do: webhook, url: "file:///etc/passwd"}]}
        maintenance: [{days: [monday], from: 24:00}]
        """
    )

    assert set(found) == {
        "version",
        "maintenance[0].days", "maintenance[0].from", "maintenance[0].to",
        "policies[0].name", "policies[0].match.types", "policies[0].match.namespace",
        "policies[0].match.namespaces", "policies[0].steps[0].force", "policies[0].steps[1].do",
        "policies[0].steps[2].do", "policies[0].steps[3].at_most", "policies[0].mode", "policies[0].max_attempts",
        "policies[0].cooldown",
        "policies[1].match.namespaces", "policies[1].match.nodes", "policies[1].steps",
        "policies[2].name", "policies[2].match.namespaces", "policies[2].steps[0].url",
    }  # fmt: skip


@pytest.mark.parametrize("namespaces", ["[]", "null", "''", "['']", "[1]", "['**']", "['../a']", "{}"])
def test_no_namespaces_are_never_all_of_them(namespaces: str) -> None:
    assert "policies[0].match.namespaces" in problems(YAML.replace("[shop, team-*]", namespaces))


@pytest.mark.parametrize(
    "document",
    [
        b"\xff", "", "[]", "a: &x 1\nb: *x", "a: 1\na: 2", '{"a":1,"a":2}', "[" * 10_000, '{"a":' * 10_000, "1: 2",
        "!!python/object/apply:os.system ['true']", '{"a": NaN}', " " * (MAX_BYTES + 1), "? {a: b}\n: c", "a: \x07",
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused(document: str | bytes) -> None:
    assert problems(document)


@LAW
@given(st.text() | st.binary())
def test_nothing_else_is_raised_whatever_the_text(document: str | bytes) -> None:
    with pytest.raises(PolicyError):
        decode_policies(document)
