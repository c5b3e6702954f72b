"""The plain readers in Python, Go and nginx/Lua, against a real server: none of them uses a line of Waypost's own.

What they need is installed by scripts/readers.sh; a test without it fails and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.conftest import Server, valkey_binary
from tests.e2e.tables import eventually
from tests.gateway.backends import Backend, get
from tests.gateway.tables import TableWriter, an_endpoint
from waypost.local.ports import free_ports
from waypost.model.names import ServiceKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

READERS = Path(__file__).resolve().parents[3] / "examples" / "readers"
PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")


def needed(program: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(program, path=path)
    assert found is not None, f"{program} is missing: run scripts/readers.sh"
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def writer(store: Server) -> Iterator[TableWriter]:
    writer = TableWriter(store.url)
    yield writer
    writer.close()


class Reader:
    """A reader that prints tables."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.last: dict[str, Any] = {}
        self.lines: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.last = json.loads(line)
            self.lines.append(self.last)

    def shows(self, endpoints: dict[str, str], *, stale: bool = False) -> Callable[[], bool]:
        def holds() -> bool:
            assert self._process.poll() is None, "it ended"
            return self.last == {"endpoints": endpoints, "stale": stale}

        return holds

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(params=["python", "go"])
def reader(request: pytest.FixtureRequest, store: Server, tmp_path: Path) -> Iterator[Reader]:
    if request.param == "python":
        program = [sys.executable, str(READERS / "python" / "reader.py")]
    else:
        program = [str(tmp_path / "reader")]
        command = [needed("go"), "build", "-mod=readonly", "-o", program[0], "."]
        build = subprocess.run(command, cwd=READERS / "go", capture_output=True, text=True, check=False)
        assert build.returncode == 0, f"{build.stderr}\nrun scripts/readers.sh"
    reader = Reader([*program, store.url, str(PAY)], tmp_path / "reader.log")
    yield reader
    reader.end()


def test_a_plain_reader_follows_and_never_forgets(reader: Reader, store: Server, writer: TableWriter) -> None:
    eventually(reader.shows({}))
    writer.publish(PAY, {"a": an_endpoint(1, address="10.0.0.1"), "b": an_endpoint(2, address="db.internal")})
    eventually(reader.shows({"a": "10.0.0.1:1", "b": "db.internal:2"}))
    writer.publish(CART, {"x": an_endpoint(9)})
    writer.publish(PAY, {"a": an_endpoint(1, address="10.0.0.1")})
    eventually(reader.shows({"a": "10.0.0.1:1"}))

    # Wiped: what it has is kept until the store has caught up.
    client = store.client()
    client.flushall()
    eventually(reader.shows({"a": "10.0.0.1:1"}, stale=True))
    writer.rebuild()
    eventually(reader.shows({"a": "10.0.0.1:1"}))

    # Gone and back, empty.
    store.kill()
    eventually(reader.shows({"a": "10.0.0.1:1"}, stale=True))
    store.start()
    writer.rebuild()
    writer.publish(PAY, {"c": an_endpoint(3, address="10.0.0.3")})
    eventually(reader.shows({"c": "10.0.0.3:3"}))

    # An older copy of the store is not believed.
    older = {"c": "10.0.0.3:3"}
    client.hset("waypost:v1:{default/payments}:meta", "revision", 5)
    client.hdel("waypost:v1:{default/payments}:route", "c")
    eventually(reader.shows(older, stale=True))
    client.close()

    assert all(line["endpoints"] for line in reader.lines[1:])
    # An empty table that is said to be empty is one.
    writer.publish(PAY, {})
    eventually(reader.shows({}))


@pytest.fixture
def nginx(store: Server, tmp_path: Path) -> Iterator[str]:
    """The address of nginx with the example's configuration, its ports replaced by free ones."""
    program = needed("nginx")
    assert Path("/usr/lib/nginx/modules/ngx_http_lua_module.so").exists(), "nginx has no Lua: run scripts/readers.sh"
    [port] = free_ports([None])
    site = tmp_path / "nginx"
    site.mkdir()
    shutil.copy(READERS / "nginx" / "waypost.lua", site)
    configuration = (READERS / "nginx" / "nginx.conf").read_text()
    for example, own in (("127.0.0.1:8080", f"127.0.0.1:{port}"), ("6379", str(store.port))):
        assert configuration.count(example) == 1
        configuration = configuration.replace(example, own)
    (site / "nginx.conf").write_text(configuration)
    command = [program, "-p", str(site), "-c", "nginx.conf", "-g", "daemon off; master_process off;"]
    with (tmp_path / "nginx.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _status(url) or process.poll())
        assert process.poll() is None, (tmp_path / "nginx.log").read_text()
        yield url
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)


def _status(url: str) -> int:
    try:
        return get(url, "/")[0]
    except OSError:
        return 0


def names(url: str, times: int = 12) -> set[str]:
    answers = [get(url, "/x") for _ in range(times)]
    return {body.split(" ")[0] if status == 200 else f"!{status}" for status, body in answers}


def test_nginx_calls_what_the_table_says(nginx: str, store: Server, writer: TableWriter) -> None:
    a, b, none = Backend("a"), Backend("b"), Backend("none")
    try:
        assert names(nginx, 1) == {"!503"}
        both = {"a": an_endpoint(a.port), "b": an_endpoint(b.port), "n": an_endpoint(none.port, weight=0)}
        writer.publish(PAY, both)
        eventually(lambda: names(nginx, 30) == {"a", "b"})

        # One that died and is still in the table: nobody notices.
        b.stop()
        assert names(nginx, 30) == {"a"}

        client = store.client()
        client.flushall()
        client.close()
        assert names(nginx, 30) == {"a"}
        store.kill()
        assert names(nginx, 30) == {"a"}
        store.start()
        assert names(nginx, 30) == {"a"}
        writer.rebuild()
        writer.publish(PAY, {"n": an_endpoint(none.port, weight=0)})
        eventually(lambda: names(nginx, 5) == {"none"})
        writer.publish(PAY, {})
        eventually(lambda: names(nginx, 5) == {"!503"})
    finally:
        for backend in (a, b, none):
            backend.stop()
