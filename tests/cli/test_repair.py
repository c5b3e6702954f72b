"""`waypost repair`: what the topics of evidence say, and what a person's word becomes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.jobs.repair_world import World
from tests.jobs.test_repairs import ACTING, a_world, crash_of
from tests.model.repairs import MINUTE, PAYMENTS, SECOND, T0, an_alert
from waypost.cli import main, repair
from waypost.wire.alerts import encode_alert
from waypost.wire.config import decode_config
from waypost.wire.repair_config import CONTROL, POLICIES, ApprovalFor, Resumption, decode_switch, decode_word
from waypost.wire.repair_decisions import encode_decision
from waypost.wire.repair_results import encode_result

Pair = tuple[bytes | None, bytes | None]


class Topics:
    """Kafka as lists, in place of the two functions that reach it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: dict[str, list[Pair]] = defaultdict(list)
        self.now = T0
        monkeypatch.setattr(repair, "read_since", lambda _address, topic, _since: self.records[topic])
        monkeypatch.setattr(
            repair, "write", lambda _address, topic, key, value: self.records[topic].append((key, value))
        )
        monkeypatch.setattr(repair, "_now", lambda: self.now)

    def of(self, world: World) -> Topics:
        """Take over what a job wrote."""
        self.now = world.clock.wall
        self.records["repair-actions"] = [(b"", encode_decision(one)) for one in world.decisions]
        self.records["repair-results"] = [(b"", encode_result(one)) for one in world.results]
        return self

    def say(self, *arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, ["repair", *arguments, "--kafka", "nobody:1"], input=stdin)


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    return Topics(monkeypatch)


def repaired() -> World:
    world = a_world()
    world.alert(crash_of(world))
    world.run_for(30 * SECOND)
    return world


def asked() -> World:
    world = a_world(mode="approve")
    world.alert(crash_of(world))
    world.run_for(30 * SECOND)
    return world


def test_a_repair_is_one_line_with_its_outcome(topics: Topics) -> None:
    world = repaired()

    result = topics.of(world).say("list")

    assert result.exit_code == 0, result.output
    heading, line = result.output.splitlines()
    assert heading.split()[:4] == ["TARGET", "ALERT", "STATE", "STEPS"]
    assert line.split()[:4] == ["shop/payments", "PodCrash", "succeeded", "evict-pod"]
    assert world.results[0].id[:12] in line


def test_copies_of_records_are_told_once(topics: Topics) -> None:
    topics.of(repaired())
    for name in ("repair-actions", "repair-results"):
        topics.records[name] *= 3

    [document] = json.loads(topics.say("list", "-o", "json").output)

    assert [one["decision"] for one in document["decisions"]] == ["refuse", "ask", "act"]
    assert [one["outcome"] for one in document["results"]] == ["succeeded"]


def test_only_a_namespace_is_shown(topics: Topics) -> None:
    topics.of(repaired())

    assert topics.say("list", "-n", "other").output == ""
    assert "payments" in topics.say("list", "-n", "shop").output


def test_everything_about_an_action_is_told_in_order(topics: Topics) -> None:
    world = repaired()
    topics.of(world)

    by_id = topics.say("describe", world.results[0].id[:8])
    by_target = topics.say("describe", "shop/payments")

    assert by_id.exit_code == 0, by_id.output
    assert by_id.output == by_target.output
    words = [line.split()[1] for line in by_id.output.splitlines()[1:5]]
    assert words == ["refuse", "ask", "act", "succeeded"]
    assert "is evicted" in by_id.output


def test_what_nobody_knows_is_told(topics: Topics) -> None:
    result = topics.of(repaired()).say("describe", "shop/other")

    assert result.exit_code == 1
    assert "nothing is known of shop/other" in result.output


def test_a_yes_reaches_the_job(topics: Topics) -> None:
    world = asked()
    action = world.decisions[-1].action
    assert action is not None
    topics.of(world)

    result = topics.say("approve", action.id[:6], "--by", "anna")

    assert result.exit_code == 0, result.output
    [(key, value)] = topics.records["service-config"]
    record = decode_config(key, value)
    assert record is not None
    said = decode_word(record)
    assert isinstance(said, ApprovalFor)
    assert (said.approval.action_id, said.approval.by) == (action.id, "anna")
    world.say(record)
    world.run_for(MINUTE)
    assert len(world.calls("evict")) == 1


def test_a_yes_to_nothing_is_refused(topics: Topics) -> None:
    world = repaired()
    topics.of(world)

    for what in (world.results[0].id, "abcd"):
        assert topics.say("approve", what).exit_code == 1
    assert topics.say("approve", "a").exit_code == 2
    assert topics.records["service-config"] == []


def test_pause_and_resume_are_the_switch(topics: Topics) -> None:
    assert topics.say("pause", "--because", "the network is being rebuilt", "--by", "anna").exit_code == 0
    assert topics.say("resume", "--by", "anna").exit_code == 0

    said = []
    for key, value in topics.records["service-config"]:
        record = decode_config(key, value)
        assert record is not None
        assert record.name == CONTROL
        said.append(decode_switch(record.value))
    assert [(one.enabled, one.because) for one in said] == [(False, "the network is being rebuilt"), (True, "")]


def test_who_pauses_by_a_slow_clock_is_heard(topics: Topics) -> None:
    assert topics.say("resume", "--by", "anna").exit_code == 0
    topics.now -= MINUTE
    assert topics.say("pause", "--by", "bob").exit_code == 0

    revisions = [decode_config(key, value).revision for key, value in topics.records["service-config"]]  # type: ignore[union-attr]
    assert revisions == [T0, T0 + 1]


def test_resume_of_a_target_is_a_word_about_it(topics: Topics) -> None:
    assert topics.say("resume", "shop/payments", "--by", "anna").exit_code == 0

    record = decode_config(*topics.records["service-config"][0])
    assert record is not None
    said = decode_word(record)
    assert isinstance(said, Resumption)
    assert said.target == PAYMENTS


@pytest.mark.parametrize("target", ["", "payments", "*", "shop/*", "shop/../x", "shop/a;b"])
def test_a_target_that_is_none_resumes_nothing(topics: Topics, target: str) -> None:
    assert topics.say("resume", target).exit_code == 2
    assert topics.records["service-config"] == []


def test_policies_are_put_in_force_or_not_at_all(topics: Topics, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(ACTING % "act")
    bad.write_text((ACTING % "act").replace("[shop]", "[]"))

    assert topics.say("policies", str(bad)).exit_code == 1
    assert topics.records["service-config"] == []
    assert topics.say("policies", str(good)).exit_code == 0
    record = decode_config(*topics.records["service-config"][0])
    assert record is not None
    assert (record.name, record.value) == (POLICIES, good.read_text())


def test_a_dry_run_says_what_the_policies_in_force_would_do(topics: Topics, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(ACTING % "shadow")
    topics.say("policies", str(file))
    alert = encode_alert(an_alert())

    shadow = json.loads(topics.say("dry-run", "-", stdin=alert).output)
    acting = json.loads(topics.say("dry-run", "-", "--as-acting", stdin=alert).output)

    assert [one.get("reason") for one in shadow] == ["waiting", "shadow"]
    assert shadow[-1]["would"] == [{"do": "evict-pod", "when_unnamed": "restart"}]
    assert acting[-1]["decision"] == "act"
    assert len(topics.records["service-config"]) == 1


def test_a_dry_run_of_poison_is_refused(topics: Topics) -> None:
    result = topics.say("dry-run", "-", stdin=b'{"type":"../"}')

    assert result.exit_code == 1
    assert "this is no alert" in result.output


def test_a_time_that_is_none_is_not_understood(topics: Topics) -> None:
    assert topics.say("list", "--since", "yesterday").exit_code == 2
