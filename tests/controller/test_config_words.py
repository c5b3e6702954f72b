"""Events say what to mend, where its author looks; a rollback patches what it must and no more."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contracts.conftest import eventually
from tests.model.config_objects import SCOPE, a_config_map
from waypost.controller.config_events import ConfigEvents, Reporting, event_of
from waypost.controller.config_rollback import ObjectRollback, by_object
from waypost.metrics import Origin
from waypost.metrics_server import ProcessMetrics
from waypost.model.change_sets import Plan, Refusal
from waypost.model.configs import Content, ObjectKey

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
APP = ObjectKey("shop", "app")


def a_refusal(*, waits: bool = False) -> Refusal:
    return Refusal(object=a_config_map(a="1"), reason="too-large", detail="shop/app/a takes 2 bytes", waits=waits)


def test_an_event_is_about_its_config_map_and_says_why() -> None:
    event = event_of(a_refusal(), NOON)

    assert event["involvedObject"]["name"] == "app"
    assert event["metadata"]["namespace"] == "shop"
    assert (event["type"], event["reason"]) == ("Warning", "ConfigRefused")
    assert event["message"] == "too-large: shop/app/a takes 2 bytes"
    assert event["lastTimestamp"] == "2026-11-22T12:00:00Z"
    assert event_of(a_refusal(waits=True), NOON)["type"] == "Normal"


def test_events_that_cannot_be_written_hold_nobody_up() -> None:
    asked = threading.Event()

    def refuse(*_: object) -> None:
        asked.set()
        raise OSError("forbidden")

    events = ConfigEvents(refuse)
    events.start()
    events.refused(a_refusal())
    assert asked.wait(30)
    eventually(lambda: events.lost == 1)
    events.close()


def test_each_refusal_is_one_event_and_is_counted_by_what_it_is() -> None:
    written: list[Any] = []
    events, metrics = ConfigEvents(lambda *event: written.append(event)), ProcessMetrics(Origin.CONFIG_SYNC)
    reporting = Reporting(metrics, events)
    events.start()

    for _ in range(2):
        reporting.planned(Plan(refusals=(a_refusal(),), withheld=(APP,)))
    events.close()

    assert len(written) == 1
    text = metrics.text().decode()
    assert 'waypost_config_sync_unpublished_config_maps{why="refused"} 1.0' in text
    assert 'waypost_config_sync_unpublished_config_maps{why="withheld"} 1.0' in text
    assert 'waypost_config_sync_unpublished_config_maps{why="waiting"} 0.0' in text


def current(**annotations: str) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(annotations=annotations or None, resource_version="7"))


def test_a_rollback_patches_the_keys_concerned_and_names_the_version_it_has_seen() -> None:
    one = ObjectRollback(key=APP, entries={"a": Content("1"), "b": None, "c": Content("AA==", binary=True)})

    patch = one.patch("rollback-1", 1, current())

    assert patch["data"] == {"a": "1", "b": None, "c": None}
    assert patch["binaryData"] == {"a": None, "b": None, "c": "AA=="}
    assert patch["metadata"] == {"name": "app", "namespace": "shop", "resourceVersion": "7"}


def test_a_rollback_of_several_is_a_change_set_and_so_is_one_of_a_member() -> None:
    one = ObjectRollback(key=APP, entries={"a": Content("1")})
    named = {"waypost.io/change-set": "rollback-1", "waypost.io/change-set-size": "2"}

    assert one.patch("rollback-1", 2, current())["metadata"]["annotations"] == named
    assert one.patch("rollback-1", 1, current(**named))["metadata"]["annotations"] == {
        **named, "waypost.io/change-set-size": "1",
    }  # fmt: skip


def test_a_config_map_that_is_gone_is_made_anew_without_nothings() -> None:
    one = ObjectRollback(key=APP, entries={"a": Content("1"), "b": Content("AA==", binary=True)})

    made = one.patch("rollback-1", 1, None)

    assert (made["data"], made["binaryData"]) == ({"a": "1"}, {"b": "AA=="})
    assert "resourceVersion" not in made["metadata"]


def test_configurations_are_taken_back_where_they_came_from() -> None:
    undone = {"shop/app/a": Content("1"), "shop/app/b": None, "shop/other/a": Content("1")}

    assert [(str(one.key), set(one.entries)) for one in by_object(undone, SCOPE)] == [
        ("shop/app", {"a", "b"}),
        ("shop/other", {"a"}),
    ]
    with pytest.raises(ValueError, match="repair/control"):
        by_object({"repair/control": None}, SCOPE)
