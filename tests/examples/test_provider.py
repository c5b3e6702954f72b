"""The provider answers as promised, byte for byte, and says so when it drains."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import orjson
import pytest
import structlog
from starlette.requests import Request
from starlette.routing import Route

import microservices
from microservices.application import Drain, Json, make_application
from microservices.environment import provider_settings
from microservices.provider import make_provider
from tests.examples.asking import ask
from waypost.logs import configure as configure_logs

SETTINGS = provider_settings({"WAYPOST_KAFKA_BOOTSTRAP": "kafka:9092"})


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the logs go, from debug up."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    out = io.StringIO()
    root.handlers[:] = []  # configure() closes those it finds
    configure_logs("debug", {"service": "s", "instance": "i", "environment": "e"}, out)
    yield out
    root.setLevel(level)
    root.handlers[:] = handlers
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


class TestAnswers:
    def test_its_answers_are_the_promised_ones(self, drain: Drain) -> None:
        answers = ask(make_provider(SETTINGS, "host-1", 8080, drain), "/info", "/data", "/health")

        assert [a.status_code for a in answers] == [200] * 3
        assert {a.headers["content-type"] for a in answers} == {"application/json"}
        assert [a.content for a in answers] == [
            b'{"service_name":"data-provider","host":"host-1","port":"8080","version":"v1.0.0"}',
            b'{"message":"Hello from provider service","source":"host-1"}',
            b'{"status":"healthy"}',
        ]

    def test_it_names_itself_as_it_is_configured(self, drain: Drain) -> None:
        settings = provider_settings({"WAYPOST_KAFKA_BOOTSTRAP": "kafka:9092", "PROVIDER_SERVICE": "numbers"})

        (answer,) = ask(make_provider(settings, "h", 18080, drain), "/info")

        assert answer.json() == {"service_name": "numbers", "host": "h", "port": "18080", "version": "v1.0.0"}

    def test_while_draining_it_serves_and_turns_health_checkers_away(self, drain: Drain) -> None:
        drain.begun = True

        data, health = ask(make_provider(SETTINGS, "host-1", 8080, drain), "/data", "/health")

        assert (data.status_code, data.json()["source"]) == (200, "host-1")
        assert (health.status_code, health.content) == (503, b'{"status":"draining"}')
        assert data.headers["connection"] == health.headers["connection"] == "close"

    @pytest.mark.parametrize("path", ["/", "/info/", "/nothing"])
    def test_an_unknown_path_is_told_in_json(self, path: str, drain: Drain) -> None:
        (answer,) = ask(make_provider(SETTINGS, "host-1", 8080, drain), path)

        assert (answer.status_code, answer.json()) == (404, {"status": "error", "reason": "Not Found"})

    def test_a_wrong_method_is_told_in_json_with_the_right_ones(self, drain: Drain) -> None:
        (answer,) = ask(make_provider(SETTINGS, "host-1", 8080, drain), "/info", method="POST")

        assert (answer.status_code, answer.json()) == (405, {"status": "error", "reason": "Method Not Allowed"})
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}

    def test_a_bug_is_told_in_json_and_logged_on_one_line(self, drain: Drain, out: io.StringIO) -> None:
        async def broken(_request: Request) -> Json:
            raise RuntimeError("secret")

        (answer,) = ask(make_application([Route("/", broken)], drain), "/")

        assert (answer.status_code, answer.json()) == (500, {"status": "error", "reason": "Internal Server Error"})
        assert [line["status"] for line in lines(out) if line["event"] == "request"] == [500]


class TestLogs:
    def test_a_line_says_what_when_who_and_the_facts(self, out: io.StringIO) -> None:
        before = datetime.now(timezone.utc)
        structlog.stdlib.get_logger().info("draining", drain_seconds=5.0)

        (line,) = lines(out)
        at = datetime.fromisoformat(str(line.pop("timestamp")))
        assert at.utcoffset() == before.utcoffset()
        assert (at - before).total_seconds() >= 0
        assert line == {
            "event": "draining", "level": "info", "service": "s", "instance": "i", "environment": "e",
            "drain_seconds": 5.0,
        }  # fmt: skip
        assert list(json.loads(out.getvalue()))[:3] == ["event", "level", "timestamp"]

    def test_libraries_are_told_in_the_same_way(self, out: io.StringIO) -> None:
        logging.getLogger("uvicorn.error").info("Started %d", 7, extra={"color_message": "\x1b[36m"})

        (line,) = lines(out)
        assert (line["event"], line["level"], line["logger"]) == ("Started 7", "info", "uvicorn.error")
        assert line["instance"] == "i"
        assert "color_message" not in line

    def test_a_traceback_stays_on_its_line(self, out: io.StringIO) -> None:
        try:
            raise ValueError("no\nway")
        except ValueError:
            logging.getLogger("x").exception("it broke")

        (line,) = lines(out)
        assert "ValueError: no\nway" in str(line["exception"])

    def test_what_json_cannot_hold_is_told_all_the_same(self, out: io.StringIO) -> None:
        structlog.stdlib.get_logger().info("odd", half="\ud800", huge=2**70, path=Path("/x"))

        (line,) = lines(out)
        assert (line["huge"], line["path"]) == (2**70, "/x")

    def test_requests_are_logged_and_those_for_health_at_debug(self, drain: Drain, out: io.StringIO) -> None:
        ask(make_provider(SETTINGS, "host-1", 8080, drain), "/data", "/health", "/nothing")

        requests = [line for line in lines(out) if line["event"] == "request"]
        assert [(r["path"], r["status"], r["level"]) for r in requests] == [
            ("/data", 200, "info"), ("/health", 200, "debug"), ("/nothing", 404, "info")
        ]  # fmt: skip
        assert all(float(str(r["duration_ms"])) >= 0 for r in requests)

    def test_the_level_is_a_floor(self) -> None:
        root = logging.getLogger()
        level, handlers = root.level, root.handlers[:]
        out = io.StringIO()
        root.handlers[:] = []
        try:
            configure_logs("warning", {}, out)
            structlog.stdlib.get_logger().info("no")
            logging.getLogger("lib").info("no")
            structlog.stdlib.get_logger().warning("yes")
        finally:
            root.setLevel(level)
            root.handlers[:] = handlers
            structlog.reset_defaults()

        assert [line["event"] for line in lines(out)] == ["yes"]


def test_the_examples_use_the_house_as_any_program_would() -> None:
    """No local stack, no command line, no demo, no stream room: what is imported here is what others may import."""
    rooms = set()
    for path in Path(microservices.__file__).parent.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(("from waypost", "import waypost")):
                rooms.add(line.split()[1].split(".")[1])
            assert not line.startswith(("from jobs", "from sinks", "from sources", "from schemas"))

    assert rooms == {"client", "errors", "logs", "model", "wire"}


def test_the_version_is_said_once() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(microservices.__file__).parent.glob("*.py")]

    assert sum(source.count("v1.0.0") for source in sources) == 1
    assert orjson.dumps(microservices.VERSION) == b'"v1.0.0"'
