"""The socket: a dead agent's is taken over, a living one's never, and nobody gets in who may not."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from waypost.agent.unix_socket import listen_unix
from waypost.errors import SettingsError


def test_it_is_there_while_it_is_served_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen_unix(path, 0o600):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(SettingsError, match="serves on"), listen_unix(path, 0o600):
            pass
    assert not path.exists()


def test_what_a_killed_agent_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.close()

    with listen_unix(path, 0o660):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(path))
        client.close()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")

    with pytest.raises(SettingsError, match="no socket"), listen_unix(path, 0o660):
        pass
    assert path.read_text() == "precious"


def test_a_place_where_none_can_be_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot listen"), listen_unix(tmp_path / "no" / "s", 0o660):
        pass


def test_the_socket_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen_unix(path, 0o660):
        path.unlink()
        path.write_text("somebody else's")
    assert path.exists()
