"""The bridge over HTTP, asked in this process; Kafka is a list."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.bridge.notifications import CRASH, NOT_READY, a_notification, an_entry
from waypost.bridge import application
from waypost.bridge.access import Tls, TokenFile, require_access
from waypost.bridge.application import PATH, WRITERS, Bridge, make_application
from waypost.bridge.webhook import MAX_BYTES
from waypost.client.event_sink import BatchSink, MemorySink, Record
from waypost.errors import RegistryUnavailable, SettingsError
from waypost.metrics import Metric
from waypost.wire.alerts import decode_alert
from waypost.wire.dead_letter import decode_dead_letter

TOKEN = "correct-horse-battery"


class Tally:
    """Counts in a dictionary."""

    def __init__(self) -> None:
        self.of: Counter[tuple[str, ...]] = Counter()

    def count(self, metric: Metric, *labels: str, times: int = 1) -> None:
        self.of[(metric.name, *labels)] += times

    def now(self, metric: Metric) -> None:
        self.of[(metric.name,)] += 1


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


Client = httpx.AsyncClient


def asked(
    what: Callable[[Client], Awaitable[Any]], sink: BatchSink, token: Path | None = None, tally: Tally | None = None
) -> Any:
    bridge = Bridge(sink, tally or Tally(), admission=TokenFile(token) if token else None)

    async def go() -> Any:
        transport = httpx.ASGITransport(make_application(bridge))
        async with Client(transport=transport, base_url="http://bridge", timeout=30) as client:
            return await what(client)

    try:
        return asyncio.run(go())
    finally:
        bridge.close()


def send(sink: BatchSink, content: Any, tally: Tally | None = None) -> httpx.Response:
    if not isinstance(content, bytes):
        content = orjson.dumps(content)
    return asked(lambda client: client.post(PATH, content=content), sink, tally=tally)


def test_one_record_per_alert_under_the_key_of_what_it_is_about() -> None:
    sink, tally = MemorySink(), Tally()
    response = send(sink, a_notification(an_entry(), an_entry(NOT_READY)), tally)

    assert (response.status_code, response.json()) == (200, {"status": "ok", "alerts": 2, "refused": 0})
    assert [(r.topic, r.key) for r in sink.records] == [("alerts", b"shop/payments"), ("alerts", b"node/n1")]
    assert [decode_alert(r.value).type for r in sink.records] == ["PodCrash", "NodeFailure"]
    assert tally.of["waypost_bridge_alerts_total", "written"] == 2
    assert tally.of["waypost_bridge_requests_total", "200"] == 1


def test_a_hostile_alert_becomes_a_dead_letter_and_not_an_alert() -> None:
    sink = MemorySink()
    hostile = an_entry(CRASH | {"pod": "../../nodes/n1"})
    response = send(sink, a_notification(hostile, an_entry()))

    assert response.json() == {"status": "ok", "alerts": 1, "refused": 1}
    [letter] = [decode_dead_letter(r.value) for r in sink.records if r.topic == "dead-letter"]
    assert (letter.topic, letter.reason) == ("alertmanager", "bad-pod")
    assert letter.value is not None
    assert orjson.loads(letter.value) == hostile


def test_while_kafka_is_away_it_is_503_and_nothing_else() -> None:
    sink = MemorySink(failure=RegistryUnavailable("no broker"))
    response = send(sink, a_notification(an_entry()))

    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "no broker" not in response.text


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"{}", 400), (b"\xff", 400), (b"[" * 9_999, 400), (b"x" * (MAX_BYTES + 1), 413)],
)
def test_hostile_bodies_are_refused_and_nothing_is_written(content: bytes, status: int) -> None:
    sink = MemorySink()

    assert send(sink, content).status_code == status
    assert sink.records == []


def test_a_body_without_a_length_is_cut_off_at_the_limit() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000_000

    sink = MemorySink()
    assert asked(lambda client: client.post(PATH, content=endless()), sink).status_code == 413
    assert sink.records == []


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    monkeypatch.setattr(application, "BODY_S", 0.01)

    async def receive() -> dict[str, Any]:
        return await asyncio.Event().wait()  # type: ignore[func-returns-value]

    async def go() -> int:
        bridge = Bridge(MemorySink(), Tally(), admission=None)
        scope = {
            "type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
            "headers": [], "scheme": "http", "server": ("bridge", 80), "client": ("c", 1), "http_version": "1.1",
        }  # fmt: skip
        sent: list[Any] = []

        async def note(message: Any) -> None:
            sent.append(message)

        await make_application(bridge)(scope, receive, note)
        bridge.close()
        return int(sent[0]["status"])

    assert asyncio.run(go()) == 503


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} {TOKEN}", "Bearer \xff"]
)
def test_strangers_are_refused_before_their_body_is_read(header: str, token: Path) -> None:
    sink = MemorySink()
    headers = {"Authorization": header.encode("latin-1")} if header else {}
    response = asked(lambda client: client.post(PATH, content=b"x" * 99, headers=headers), sink, token)

    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert sink.records == []


def test_the_token_lets_in_and_may_change(token: Path) -> None:
    sink, other = MemorySink(), "another-token-of-ours"

    async def go(client: Client) -> list[int]:
        async def status(word: str) -> int:
            content = orjson.dumps(a_notification(an_entry()))
            headers = {"Authorization": f"Bearer {word}"}
            return (await client.post(PATH, content=content, headers=headers)).status_code

        found = [await status(TOKEN)]
        fresh = token.with_name("fresh")
        fresh.write_text(other)
        os.replace(fresh, token)
        found += [await status(TOKEN), await status(other)]
        token.unlink()
        return [*found, await status(other)]

    assert asked(go, sink, token) == [200, 401, 200, 200]


def test_no_start_without_knowing_who_calls(token: Path, tmp_path: Path) -> None:
    served = Tls(certificate=tmp_path / "c", key=tmp_path / "k")
    for tls in (None, served):
        with pytest.raises(SettingsError, match="--insecure"):
            require_access(None, tls, False)
    require_access(None, None, True)
    require_access(TokenFile(token), None, False)
    require_access(None, Tls(certificate=tmp_path / "c", key=tmp_path / "k", client_ca=tmp_path / "ca"), False)


@pytest.mark.parametrize("content", ["", "short", "x" * 5_000, None])
def test_a_token_that_can_be_guessed_is_none(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)

    with pytest.raises(SettingsError, match="token"):
        TokenFile(file)


class SlowSink:
    """Takes its time until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.written = 0

    def write_all(self, records: Sequence[Record]) -> None:
        self.begun.release()
        assert self.go.wait(30)
        self.written += len(records)

    def close(self) -> None: ...


def test_more_than_it_can_write_at_once_is_told_to_come_back() -> None:
    sink = SlowSink()

    async def go(client: Client) -> tuple[int, list[int]]:
        content = orjson.dumps(a_notification(an_entry()))
        tasks = [asyncio.create_task(client.post(PATH, content=content)) for _ in range(WRITERS)]
        for _ in range(WRITERS):
            assert await asyncio.to_thread(sink.begun.acquire, True, 30)
        refused = (await client.post(PATH, content=content)).status_code
        sink.go.set()
        return refused, [task.status_code for task in await asyncio.gather(*tasks)]

    assert asked(go, sink) == (503, [200] * WRITERS)
    assert sink.written == WRITERS


def test_other_paths_and_methods_do_not_exist() -> None:
    async def go(client: Client) -> list[int]:
        return [
            (await client.get("/healthz")).status_code,
            (await client.get(PATH)).status_code,
            (await client.post("/")).status_code,
        ]

    assert asked(go, MemorySink()) == [200, 405, 404]
