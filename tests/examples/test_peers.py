"""The instances of examples/06-peers agree, come late, die and come back. Their registry here is a file;
tests/kubernetes/test_peers.py has the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.conftest import eventually
from tests.examples.peers import Peer
from waypost.local.ports import free_ports


class Application:
    def __init__(self, services: Path) -> None:
        self._services = services
        self._there: dict[str, Peer] = {}
        self._write()

    def start(self, name: str) -> Peer:
        [port] = free_ports([None])
        self._there[name] = Peer(name, "127.0.0.1", port, f"file:{self._services}")
        eventually(lambda: self._there[name].peers() is not None, within=60)
        self._write()
        return self._there[name]

    def kill(self, name: str) -> None:
        self._there.pop(name).kill()
        self._write()

    def end(self) -> None:
        for peer in self._there.values():
            peer.kill()

    def _write(self) -> None:
        entries = [{"id": peer.name, "address": "127.0.0.1", "port": peer.port} for peer in self._there.values()]
        scratch = self._services.with_suffix(".new")
        scratch.write_text(json.dumps({"peers": entries}))
        scratch.replace(self._services)


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    application = Application(tmp_path / "services.yaml")
    yield application
    application.end()


def test_all_instances_come_to_have_the_same(application: Application) -> None:
    one, two = application.start("p-1"), application.start("p-2")
    eventually(lambda: (one.peers(), two.peers()) == (["p-2"], ["p-1"]), within=60)

    one.put("colour", "red")
    eventually(lambda: two.get("colour") == "red", within=60)
    two.put("colour", "blue")
    eventually(lambda: one.get("colour") == "blue", within=60)
    one.put("size", "small")
    two.delete("colour")
    eventually(lambda: (one.get("colour"), two.get("size")) == (None, "small"), within=60)

    late = application.start("p-3")
    eventually(lambda: late.get("size") == "small", within=60)
    application.kill("p-1")
    late.put("size", "large")
    eventually(lambda: two.get("size") == "large" and two.peers() == ["p-3"], within=60)

    back = application.start("p-1")
    eventually(lambda: back.get("size") == "large", within=60)
    assert back.end() == 0
