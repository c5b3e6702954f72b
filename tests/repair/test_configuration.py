"""The switch and the policies while the job runs: what holds, and how long not knowing is no knowledge."""

from __future__ import annotations

import pytest

from tests.model.repairs import T0
from waypost.model.kill_switch import STALE_MS
from waypost.model.refusals import Reason
from waypost.model.repair_policy import DEFAULT_POLICIES
from waypost.repair.configuration import EVERY_MS, ConfigUnreadable, Configured, Reading
from waypost.wire.config import ConfigRecord, encode_config
from waypost.wire.repair_config import CONTROL, POLICIES, Switch, switch_config

Pair = tuple[bytes | None, bytes | None]

ONE = "version: one\npolicies: []\n"
TWO = "version: two\npolicies: []\n"


class Log:
    """`service-config` as a list; `error` is raised by the next readings."""

    def __init__(self) -> None:
        self.records: list[Pair] = []
        self.errors = 0
        self.readings = 0

    def __call__(self) -> Log._Feed:
        return Log._Feed(self)

    def policies(self, text: str) -> None:
        self.records.append(encode_config(ConfigRecord(name=POLICIES, revision=1, value=text)))

    def switch(self, enabled: bool) -> None:
        self.records.append(encode_config(switch_config(Switch(enabled=enabled, by="anna", at=T0))))

    class _Feed:
        def __init__(self, log: Log) -> None:
            self._log, self._next = log, 0

        def read(self) -> Reading:
            self._log.readings += 1
            if self._log.errors:
                self._log.errors -= 1
                raise ConfigUnreadable("no broker")
            reading = Reading(self._next == 0, self._log.records[self._next :])
            self._next = len(self._log.records)
            return reading

        def close(self) -> None:
            pass


class Watched:
    def __init__(self) -> None:
        self.log = Log()
        self.now = T0
        self.configured = Configured(self.log, lambda: self.now)

    def refuses(self) -> Reason | None:
        return self.configured.control().refuses(self.now)

    @property
    def version(self) -> str:
        return self.configured.current().policies.guards.version

    def later(self, ms: int) -> None:
        self.now += ms


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_without_any_record_repairs_are_on_and_policies_are_the_default(watched: Watched) -> None:
    assert watched.refuses() is None
    assert watched.configured.current().policies is DEFAULT_POLICIES


def test_a_switch_works_within_a_second_and_back(watched: Watched) -> None:
    watched.refuses()
    watched.log.switch(False)
    watched.later(EVERY_MS)
    assert watched.refuses() is Reason.KILL_SWITCH

    watched.log.switch(True)
    watched.later(EVERY_MS)
    assert watched.refuses() is None


def test_it_is_read_once_a_second_however_often_it_is_asked(watched: Watched) -> None:
    for _ in range(100):
        watched.configured.current()
        watched.later(30)

    assert watched.log.readings == 3


def test_what_cannot_be_read_is_unknown_after_ten_seconds(watched: Watched) -> None:
    assert watched.refuses() is None
    watched.log.errors = 100
    watched.later(STALE_MS)
    assert watched.refuses() is None
    watched.later(1)
    assert watched.refuses() is Reason.CONFIG_UNKNOWN

    watched.log.errors = 0
    watched.later(EVERY_MS)
    assert watched.refuses() is None


def test_before_the_first_reading_nothing_is_known(watched: Watched) -> None:
    watched.log.switch(False)
    watched.log.errors = 1
    assert watched.refuses() is Reason.CONFIG_UNKNOWN

    watched.later(EVERY_MS)
    assert watched.refuses() is Reason.KILL_SWITCH


def test_a_switch_that_nobody_understands_is_unknown(watched: Watched) -> None:
    watched.refuses()
    key, value = encode_config(ConfigRecord(name=CONTROL, revision=1, value='{"enabled":"maybe"}'))
    watched.log.records.append((key, value))
    watched.later(EVERY_MS)
    assert watched.refuses() is Reason.CONFIG_UNKNOWN
    assert CONTROL in watched.configured.current().problem

    watched.log.switch(True)
    watched.later(EVERY_MS)
    assert watched.refuses() is None
    assert watched.configured.current().problem == ""


def test_policies_are_replaced_while_it_runs(watched: Watched) -> None:
    watched.log.policies(ONE)
    assert watched.version == "one"
    watched.log.policies(TWO)
    watched.later(EVERY_MS)
    assert watched.version == "two"


@pytest.mark.parametrize("text", ["", "version: 3\npolicies: [{}]", "[]", "version: x\npolicies: []\nmode: act\n"])
def test_a_refused_document_changes_nothing_and_is_told(watched: Watched, text: str) -> None:
    watched.log.policies(ONE)
    assert watched.version == "one"
    watched.log.policies(text)
    watched.later(EVERY_MS)

    assert watched.version == "one"
    assert POLICIES in watched.configured.current().problem
    assert watched.refuses() is None

    watched.log.policies(TWO)
    watched.later(EVERY_MS)
    assert watched.version == "two"
    assert watched.configured.current().problem == ""


def test_half_a_document_is_refused_by_its_checksum(watched: Watched) -> None:
    watched.log.policies(ONE)
    key, value = encode_config(ConfigRecord(name=POLICIES, revision=2, value=TWO))
    assert value is not None
    watched.log.records.append((key, value.replace(b"two", b"tw0")))

    assert watched.version == "one"
    assert "bad-checksum" in watched.configured.current().problem


def test_policies_taken_away_are_the_default_again(watched: Watched) -> None:
    watched.log.policies(ONE)
    assert watched.version == "one"
    watched.log.records.append((POLICIES.encode(), None))
    watched.later(EVERY_MS)

    assert watched.configured.current().policies is DEFAULT_POLICIES


def test_other_configurations_are_none_of_ours(watched: Watched) -> None:
    watched.log.records += [(b"gateway/limits", b"\xff\xfe"), (None, b"x"), (b"repair/approval/x", b"{}"), (b"", None)]

    assert watched.refuses() is None
    assert watched.configured.current().problem == ""


def test_a_clock_that_is_set_back_reads_again(watched: Watched) -> None:
    watched.refuses()
    watched.later(-60_000)

    assert watched.refuses() is None


def test_an_older_revision_changes_nothing_and_an_equal_one_does(watched: Watched) -> None:
    def said(text: str, revision: int) -> str:
        watched.log.records.append(encode_config(ConfigRecord(name=POLICIES, revision=revision, value=text)))
        watched.later(EVERY_MS)
        return watched.version

    assert [said(ONE, 5), said(TWO, 4), said(TWO, 5), said(ONE, 6)] == ["one", "one", "two", "one"]


def test_a_revision_is_forgotten_with_its_configuration(watched: Watched) -> None:
    watched.log.policies(ONE)
    watched.log.records.append((POLICIES.encode(), None))
    watched.log.records.append(encode_config(ConfigRecord(name=POLICIES, revision=0, value=TWO)))

    assert watched.version == "two"
