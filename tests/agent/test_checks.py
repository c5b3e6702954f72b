"""Checks: read strictly, done in time, and exec leaves nothing running."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.members import a_member
from tests.contracts.conftest import eventually
from tests.gateway.backends import Backend
from waypost.agent.checks import Check, check_document, probe_of, read_check
from waypost.errors import DecodeError

CHECKS = st.one_of(
    st.builds(Check, kind=st.just("tcp"), port=st.integers(0, 65_535), interval=st.just(timedelta(seconds=0.5))),
    st.builds(Check, kind=st.just("http"), path=st.just("/x?y=1"), timeout=st.just(timedelta(seconds=7))),
    st.builds(Check, kind=st.just("grpc"), service=st.text("abc.", max_size=20)),
    st.builds(Check, kind=st.just("exec"), command=st.just(("/bin/sh", "-c", "exit 0"))),
    st.just(Check(kind="none")),
)


@given(CHECKS)
def test_what_is_written_is_read_again(check: Check) -> None:
    assert read_check(check_document(check)) == check


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "unknown-check"),
        ({"tcp": {}, "http": {}}, "unknown-check"),
        ({"ping": {}}, "unknown-check"),
        ({"tcp": []}, "wrong-type"),
        ({"tcp": {"path": "/"}}, "unknown-field"),
        ({"tcp": {"port": 0}}, "port-out-of-range"),
        ({"tcp": {"timeout": 0}}, "bad-timeout"),
        ({"tcp": {"timeout": True}}, "bad-timeout"),
        ({"tcp": {"interval": 1e9}}, "bad-interval"),
        ({"http": {"path": "healthz"}}, "bad-path"),
        ({"http": {"path": "/a b"}}, "bad-path"),
        ({"http": {"path": "/a\r\nX: y"}}, "control-character"),
        ({"exec": {}}, "command-missing"),
        ({"exec": {"command": []}}, "bad-command"),
        ({"exec": {"command": ["sh"]}}, "bad-command"),
        ({"exec": {"command": ["/bin/sh", 1]}}, "wrong-type"),
        ({"none": {"interval": 1}}, "unknown-field"),
    ],
)
def test_what_is_no_check_is_refused(said: Any, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read_check(said)
    assert caught.value.reason == reason


def test_tcp_and_http_look_at_the_instance_or_at_another_port() -> None:
    backend = Backend("a")
    try:
        here, elsewhere = (a_member(address="127.0.0.1", port=port).instance for port in (backend.port, 1))
        for kind in ("tcp", "http"):
            assert probe_of(Check(kind=kind))(here)
            assert not probe_of(Check(kind=kind))(elsewhere)
            assert probe_of(Check(kind=kind, port=backend.port))(elsewhere)
    finally:
        backend.stop()


def test_a_program_passes_with_status_0() -> None:
    one = a_member(port=4711).instance

    assert probe_of(Check(kind="exec", command=("/bin/sh", "-c", 'test "$WAYPOST_PORT" = 4711')))(one)
    assert not probe_of(Check(kind="exec", command=("/bin/false",)))(one)
    assert not probe_of(Check(kind="exec", command=("/nowhere/at/all",)))(one)


def test_a_program_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
    check = Check(kind="exec", command=("/bin/sh", "-c", script), timeout=timedelta(seconds=1))

    began = time.monotonic()
    # Until the script has come so far: on a busy machine a second may not be enough.
    eventually(lambda: not probe_of(check)(a_member().instance) and pids.exists(), within=60)

    assert time.monotonic() - began < 120
    for pid in map(int, pids.read_text().split()):
        eventually(lambda pid=pid: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose new parent has not looked yet does not run.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
