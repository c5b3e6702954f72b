"""The list and watch goes on where it was, and finds a new beginning when that is gone. Needs the client's extra."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contracts.conftest import eventually
from waypost.controller.config_maps import ConfigMaps, ConfigMapWatch, read_config_map
from waypost.model.configs import Content, ObjectKey

client = pytest.importorskip("kubernetes.client")


def a_document(name: str, version: int, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": str(version)},
        "data": data,
    }


def an_item(document: dict[str, Any]) -> Any:
    return client.ApiClient().deserialize(json.dumps(document), "V1ConfigMap", "application/json")


class Response:
    """What a watch reads from: lines, then the end or an error."""

    status = 200

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            if callable(event):
                event()
                continue
            yield (json.dumps(event) + "\n").encode()

    read_chunked = stream

    def close(self) -> None: ...
    def release_conn(self) -> None: ...


class Api:
    """Answers lists and watches from a script; what was asked is in `asked`."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self._lists, self._watches = lists, watches
        self.asked: list[tuple[str, str | None]] = []

    def list_namespaced_config_map(self, namespace: str, **arguments: Any) -> Any:
        """:return: V1ConfigMapList"""
        if arguments.get("watch"):
            self.asked.append(("watch", arguments["resource_version"]))
            answer = self._watches.pop(0) if self._watches else self._silence
            if isinstance(answer, Exception):
                raise answer
            return answer if not callable(answer) else answer()
        self.asked.append(("list", arguments.get("_continue")))
        answer = self._lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    list_config_map_for_all_namespaces = list_namespaced_config_map

    def _silence(self) -> Any:
        raise OSError("nothing more in the script")


def a_list(version: int, *documents: dict[str, Any], more: str | None = None) -> Any:
    return SimpleNamespace(
        items=[an_item(one) for one in documents],
        metadata=SimpleNamespace(resource_version=str(version), _continue=more),
    )


@contextmanager
def watching(api: Api) -> Iterator[ConfigMaps]:
    found = ConfigMaps()
    watch = ConfigMapWatch(api, found, namespace="shop")
    watch.start()
    try:
        yield found
    finally:
        found.close()
        watch.close()


def names(found: ConfigMaps) -> Callable[[], set[str]]:
    return lambda: {key.name for key in (found._objects or {})}


def test_a_list_of_many_pages_is_one_list() -> None:
    api = Api([a_list(5, a_document("one", 1), more="page-2"), a_list(5, a_document("two", 2))], [])

    with watching(api) as found:
        eventually(lambda: names(found)() == {"one", "two"})

    assert api.asked[:2] == [("list", None), ("list", "page-2")]


def test_a_watch_goes_on_behind_what_was_seen_also_after_an_error_and_a_bookmark() -> None:
    api = Api(
        [a_list(5)],
        [
            Response([{"type": "ADDED", "object": a_document("one", 6)}, OSError("reset")]),
            Response([{"type": "BOOKMARK", "object": {"kind": "ConfigMap", "metadata": {"resourceVersion": "9"}}}]),
            Response([{"type": "DELETED", "object": a_document("one", 10)}]),
        ],
    )

    with watching(api) as found:
        eventually(lambda: api.asked[:5] == [("list", None), *[("watch", v) for v in ("5", "6", "9", "10")]])
        seen = found.wait(0)

    assert seen is not None
    assert (seen.objects, seen.deleted) == ((), frozenset({ObjectKey("shop", "one")}))


@pytest.mark.parametrize(
    "gone",
    [
        client.ApiException(status=410),
        Response([{"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}]),
    ],
)
def test_a_place_that_is_gone_is_found_anew_by_a_list(gone: Any) -> None:
    api = Api([a_list(5, a_document("one", 1)), a_list(50, a_document("two", 40))], [gone])

    with watching(api) as found:
        eventually(lambda: names(found)() == {"two"})
        eventually(lambda: ("watch", "50") in api.asked)
        seen = found.wait(0)

    assert seen is not None
    assert seen.deleted == frozenset()  # absent, not seen deleted


def test_a_list_that_fails_is_tried_again() -> None:
    api = Api([client.ApiException(status=403), OSError("refused"), a_list(5, a_document("one", 1))], [])

    with watching(api) as found:
        eventually(lambda: names(found)() == {"one"})


def test_a_config_map_is_read_with_its_bytes_and_annotations() -> None:
    document = a_document("app", 7, limits="10")
    document["binaryData"] = {"logo": "AAEC"}
    document["metadata"]["annotations"] = {"waypost.io/change-set": "r1", "waypost.io/change-set-size": "2"}

    one = read_config_map(an_item(document))

    assert one.key == ObjectKey("shop", "app")
    assert one.contents == {"limits": Content("10"), "logo": Content("AAEC", binary=True)}
    assert (one.change_set, one.size, one.uid, one.version) == ("r1", "2", "app", "7")


def test_a_config_map_without_anything_is_read_as_empty() -> None:
    document = a_document("app", 7)
    del document["data"]

    assert read_config_map(an_item(document)).contents == {}
