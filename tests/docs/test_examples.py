"""Examples in the documents are right: JSON passes its schema, what is sent is accepted, Python runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import schemas
from sinks.redis_routes import RedisRouteStore
from tests.docs.pages import PAGES, READMES, ROOT, Fence, fences, shell_lines
from tests.wire.publications import T0, a_publication
from waypost.client import event_sink, routes
from waypost.client.event_sink import MemorySink
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.stamp import Stamp
from waypost.topics import HEARTBEAT, REGISTRY, default_topics
from waypost.wire.beats import decode_heartbeat
from waypost.wire.registry import decode_registration

ROOM = Path(schemas.__file__).parent
NOW = Stamp(T0, 3, 1204)
TOPICS = {role: topic.name for role, topic in default_topics().items()}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def validate(message: str, document: Any) -> None:
    schema = json.loads((ROOM / f"{message}.schema.json").read_text())
    Draft202012Validator(schema).validate(document)


@by_page
def test_json_passes_the_schema_it_names(page: Path) -> None:
    for fence in fences(page):
        if fence.language == "json":
            assert fence.tag, f"say which message this is (```json route-value): {fence.text}"
            for line in fence.text.splitlines():
                validate(fence.tag.partition(".")[0], json.loads(line))


@by_page
def test_golden_examples_are_shown_as_they_are(page: Path) -> None:
    for fence in fences(page):
        if fence.language == "json" and fence.tag.endswith(".json"):
            assert fence.text == (ROOM / "examples" / fence.tag).read_text().rstrip("\n")


def test_the_topics_page_shows_all_golden_messages_of_topics() -> None:
    elsewhere = ("route-value.", "instance-value.", "change-data.", "meta-window.", "repair-policies.")
    golden = {path.name for path in (ROOM / "examples").glob("*.json") if not path.name.startswith(elsewhere)}

    assert {fence.tag for fence in fences(ROOT / "docs" / "topics.md") if fence.language == "json"} == golden


def test_json_in_redis_outputs_passes_its_schema() -> None:
    seen = set()
    for fence in fences(ROOT / "docs" / "redis.md"):
        if fence.language == "console":
            for line in filter(lambda x: x.startswith("{"), fence.text.splitlines()):
                document = json.loads(line)
                kinds = {"set": "change-data", "lease": "instance-value", "held": "route-value"}
                message = next(kind for field, kind in kinds.items() if field in document)
                validate(message, document)
                seen.add(message)

    assert seen == {"change-data", "instance-value", "route-value"}


@by_page
def test_what_is_sent_to_a_topic_is_accepted(page: Path) -> None:
    for line in shell_lines(page):
        found = re.fullmatch(r"echo '(.*)' +\| kcat -P -b \$KAFKA -t (\S+) -k (\S+)", line)
        assert found or "kcat" not in line, line
        if found:
            value, topic, key = found.groups()
            if topic == TOPICS[REGISTRY]:
                event = decode_registration(value.encode(), NOW)
                assert str(event.service) == key
            else:
                assert topic == TOPICS[HEARTBEAT]
                assert not decode_heartbeat(key.encode(), value.encode()).errors


def _python(page: Path, what: str) -> Fence:
    return next(fence for fence in fences(page) if fence.language == "python" and what in fence.text)


@pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)
def test_the_registering_example_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = MemorySink()
    make: Callable[[str], MemorySink] = lambda _bootstrap: sink  # noqa: E731
    monkeypatch.setattr(event_sink, "KafkaSink", make)

    exec(compile(_python(page, "Registrar").text, page.name, "exec"), {})

    assert [json.loads(r.value).get("op") for r in sink.records] == ["register", None, "deregister"]


@pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)
def test_the_reading_example_runs(
    page: Path, valkey: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = f"docs-{page.stem}:v1:"
    store = RedisRouteStore(valkey, prefix=prefix)
    opened = store.open(WriterId("docs", 0), T0)
    assert isinstance(opened, Opened)
    publication = a_publication(base=0, routes={"payments-2": a_publication().routes["payments-2"]})
    assert store.publish(publication, opened.epoch, T0) == Written()
    store.close()
    reader = routes.RouteReader
    monkeypatch.setattr(routes, "RouteReader", lambda _url: reader(valkey, prefix=prefix))

    exec(compile(_python(page, "RouteReader").text, page.name, "exec"), {})

    assert capsys.readouterr().out == "payments-2 10.1.2.3 8080 100\n"
