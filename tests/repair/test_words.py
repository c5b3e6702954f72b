"""Isolating an endpoint, telling a webhook, writing a note."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from tests.model.repairs import PAYMENTS, T0
from tests.repair.played import Played, an_action
from waypost.errors import SettingsError
from waypost.model.isolation import Verb
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import Do, Step
from waypost.model.surroundings import Surroundings
from waypost.repair.port import Refused, Unavailable
from waypost.repair.webhooks import AllowedWebhooks
from waypost.wire.repair_results import StepOutcome

HOOK = Step.of(Do.WEBHOOK, url="https://hooks.example/repair")
NOTIFY = Step.of(Do.NOTIFY)
ISOLATE = Step.of(Do.ISOLATE, for_seconds=600)


def test_the_endpoints_of_the_pod_are_isolated_for_a_time() -> None:
    played = Played()
    played.give(an_action(ISOLATE), Surroundings(instances=("payments-1:80", "payments-1:81"), healthy=4))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert [(w.verb, w.service, w.instance, w.node) for w in played.isolations] == [
        (Verb.ISOLATE, PAYMENTS, "payments-1:80", ""),
        (Verb.ISOLATE, PAYMENTS, "payments-1:81", ""),
    ]
    assert {w.expires_at for w in played.isolations} == {T0 + 600_000}


def test_a_pod_in_no_table_isolates_nothing() -> None:
    played = Played()
    played.give(an_action(ISOLATE))

    result = played.to_the_end()

    assert played.isolations == []
    assert [step.outcome for step in result.steps] == [StepOutcome.SKIPPED]


def test_a_webhook_is_told_the_facts_under_one_key() -> None:
    played = Played()
    played.hooks.errors = [Unavailable("503"), Unavailable("timeout")]
    action = an_action(HOOK, type="HighErrorRate")
    played.give(action)

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    [(url, body, key)] = played.hooks.posted
    assert url == "https://hooks.example/repair"
    assert key == f"{action.id}.0"
    assert orjson.loads(body)["target"] == "shop/payments"
    assert played.cluster.calls == []


def test_a_webhook_that_refuses_is_not_asked_again() -> None:
    played = Played()
    played.hooks.errors = [Refused("404")]
    played.give(an_action(HOOK))

    assert played.to_the_end().outcome is Outcome.FAILED
    assert played.hooks.posted == []


@pytest.mark.parametrize(
    ("facts", "about"),
    [({}, "pod shop/payments-1"), ({"pod": ""}, "service shop/payments"), ({"node": "n1"}, "node n1")],
)
def test_a_notification_is_an_event_about_what_it_is_about(facts: dict[str, str], about: str) -> None:
    played = Played()
    played.give(an_action(NOTIFY, **facts))

    assert played.to_the_end().outcome is Outcome.SUCCEEDED
    [note] = played.cluster.notes.values()
    assert str(note.about) == about
    assert note.warning
    assert played.now < T0 + 1_000, "nothing has to be verified"


class Receiver(BaseHTTPRequestHandler):
    status = 200
    seen: list[tuple[str, str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Idempotency-Key"], body))
        self.send_response(self.status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    handler = type("Handler", (Receiver,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()
    thread.join()


class TestAllowedWebhooks:
    def test_what_is_listed_is_called(self, receiver: tuple[str, type[Receiver]]) -> None:
        origin, handler = receiver

        AllowedWebhooks([f"{origin}/hooks"]).post(f"{origin}/hooks/a?x=1", b"{}", timeout_ms=2_000, key="k")

        assert handler.seen == [("/hooks/a?x=1", "k", b"{}")]

    @pytest.mark.parametrize(
        "path", ["/other", "/hooksandmore", "/hooks/../other", "/hooks/%2e%2e/other", "/hooks/..\\x", "/"]
    )
    def test_what_is_not_listed_is_not(self, receiver: tuple[str, type[Receiver]], path: str) -> None:
        origin, handler = receiver

        with pytest.raises(Refused, match=r"repair\.webhooks"):
            AllowedWebhooks([f"{origin}/hooks"]).post(origin + path, b"{}", timeout_ms=2_000, key="k")

        assert handler.seen == []

    @pytest.mark.parametrize(
        "url", ["http://user@127.0.0.1/hooks", "ftp://127.0.0.1/hooks", "http://127.0.0.1:1/hooks"]
    )
    def test_another_host_user_or_scheme_is_not(self, url: str) -> None:
        with pytest.raises(Refused):
            AllowedWebhooks(["http://127.0.0.1/hooks"]).post(url, b"{}", timeout_ms=500, key="k")

    def test_nothing_is_listed_by_default(self) -> None:
        with pytest.raises(Refused):
            AllowedWebhooks([]).post("http://127.0.0.1/", b"{}", timeout_ms=500, key="k")

    @pytest.mark.parametrize(
        ("status", "error"), [(302, Refused), (404, Refused), (503, Unavailable), (429, Unavailable)]
    )
    def test_answers(self, receiver: tuple[str, type[Receiver]], status: int, error: type[Exception]) -> None:
        origin, handler = receiver
        handler.status = status

        with pytest.raises(error):
            AllowedWebhooks([origin]).post(f"{origin}/a", b"{}", timeout_ms=2_000, key="k")

        assert len(handler.seen) == 1

    def test_nobody_there_is_unavailable(self) -> None:
        with pytest.raises(Unavailable):
            AllowedWebhooks(["http://127.0.0.1:1/"]).post("http://127.0.0.1:1/", b"{}", timeout_ms=500, key="k")

    @pytest.mark.parametrize("entry", ["", "hooks.example", "ftp://hooks.example", "http://:80", "http://h:x"])
    def test_a_list_that_is_none_is_told(self, entry: str) -> None:
        with pytest.raises(SettingsError):
            AllowedWebhooks([entry])
