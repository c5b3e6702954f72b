"""The labelled ConfigMaps as they are: listed once, then watched from there, listed again when the place is lost.

The list is a consistent read and not a cache's, so a restart never sees an older state than the process before it. A
watch goes on from the last resource version or bookmark; a server that no longer has it (410) is asked for a new list,
and the difference is found by whoever compares. Deletions that were seen are remembered apart from mere absence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from waypost.client.connection import Backoff
from waypost.model.configs import ConfigObject, Content, ObjectKey

_log = logging.getLogger(__name__)

LABEL = "waypost.io/config=true"
CHANGE_SET = "waypost.io/change-set"
CHANGE_SET_SIZE = "waypost.io/change-set-size"

WATCH_S = 60
"""One watch; then another from the same place. It bounds how long a connection that died silently is listened to."""
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All labelled ConfigMaps at one moment, and the keys of those whose deletion was seen."""

    objects: tuple[ConfigObject, ...]
    deleted: frozenset[ObjectKey]


class ConfigMaps:
    """What is there, shared between the watching thread and whoever waits for a change."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[ObjectKey, ConfigObject] | None = None
        self._deleted: set[ObjectKey] = set()
        self._is_new = False
        self._closed = False

    def listed(self, objects: Mapping[ObjectKey, ConfigObject]) -> None:
        with self._changed:
            self._objects = dict(objects)
            self._deleted -= set(objects)
            self._tell()

    def applied(self, one: ConfigObject) -> None:
        with self._changed:
            assert self._objects is not None, "a watch follows a list"
            self._objects[one.key] = one
            self._deleted.discard(one.key)
            self._tell()

    def removed(self, key: ObjectKey) -> None:
        with self._changed:
            assert self._objects is not None, "a watch follows a list"
            if self._objects.pop(key, None) is not None:
                self._deleted.add(key)
                self._tell()

    def wait(self, timeout_s: float | None = None) -> Seen | None:
        """Wait until something is new since the last call; None: closed, or nothing in time. Never before a list."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_new, timeout_s)
            return None if self._closed or not self._is_new else self._seen()

    def again(self) -> None:
        """Let the next `wait` return at once, if there was a list."""
        with self._changed:
            if self._objects is not None:
                self._tell()

    def forget(self, deleted: frozenset[ObjectKey]) -> None:
        """Stop remembering deletions that were acted upon."""
        with self._changed:
            self._deleted -= deleted

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def is_closed(self) -> bool:
        return self._closed

    def pause(self, timeout_s: float) -> None:
        """Wait so long, or until closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout_s)

    def _seen(self) -> Seen:
        self._is_new = False
        return Seen(objects=tuple((self._objects or {}).values()), deleted=frozenset(self._deleted))

    def _tell(self) -> None:
        self._is_new = True
        self._changed.notify_all()


class Core(Protocol):
    """The calls of kubernetes' `CoreV1Api` that are used here."""

    @property
    def list_namespaced_config_map(self) -> Callable[..., Any]: ...
    @property
    def list_config_map_for_all_namespaces(self) -> Callable[..., Any]: ...


class ConfigMapWatch:
    """Keeps a ConfigMaps equal to the API server, on a thread of its own."""

    def __init__(self, core: Core, found: ConfigMaps, *, namespace: str | None, selector: str = LABEL) -> None:
        self._list: Callable[..., Any] = core.list_config_map_for_all_namespaces
        self._arguments: dict[str, Any] = {"label_selector": selector}
        if namespace is not None:
            self._list = core.list_namespaced_config_map
            self._arguments["namespace"] = namespace
        self._found = found
        self._watch: Any = None
        self._version = ""
        """Where the watch goes on; "" when a list is needed."""
        self._thread = threading.Thread(target=self._run, name="watching ConfigMaps", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop watching; call it after `ConfigMaps.close`."""
        if self._watch is not None:
            self._watch.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        from kubernetes.client import ApiException

        backoff = Backoff(first=timedelta(milliseconds=200))
        while not self._found.is_closed():
            try:
                if not self._version:
                    self._version = self._read_list()
                begun = time.monotonic()
                self._follow()
                backoff.reset()
                if time.monotonic() - begun < 1:
                    self._found.pause(1)  # somebody in between ends every watch at once
            except Exception as error:  # whatever it is: without this thread nobody would see a change any more
                if self._found.is_closed():
                    return
                if isinstance(error, ApiException) and error.status in (400, 410):
                    self._version = ""  # the place is gone, or is none: find the difference by a list
                elif not backoff.failures:
                    _log.warning("the ConfigMaps are not seen at present: %s", _short(error))
                self._found.pause(backoff.next().total_seconds())

    def _read_list(self) -> str:
        objects: dict[ObjectKey, ConfigObject] = {}
        arguments = {**self._arguments, "limit": _PAGE, "_request_timeout": (5, 30)}
        while True:
            page = self._list(**arguments)
            for item in page.items:
                one = read_config_map(item)
                objects[one.key] = one
            if not page.metadata._continue:
                break
            arguments["_continue"] = page.metadata._continue
        self._found.listed(objects)
        return str(page.metadata.resource_version)

    def _follow(self) -> None:
        from kubernetes import watch

        self._watch = watch.Watch(return_type="V1ConfigMap")  # type: ignore[no-untyped-call]
        events = self._watch.stream(
            self._list, **self._arguments, resource_version=self._version, allow_watch_bookmarks=True,
            timeout_seconds=WATCH_S, _request_timeout=(5, WATCH_S + 15),
        )  # fmt: skip
        for event in events:
            if self._found.is_closed():
                return
            if event["type"] in ("ADDED", "MODIFIED"):
                self._found.applied(read_config_map(event["object"]))
            elif event["type"] == "DELETED":
                self._found.removed(read_config_map(event["object"]).key)
            self._version = self._watch.resource_version or self._version


def read_config_map(item: Any) -> ConfigObject:
    """Return what is ours of a `V1ConfigMap`."""
    meta = item.metadata
    annotations = meta.annotations or {}
    contents = {name: Content(_clean(text)) for name, text in (item.data or {}).items()}
    contents.update({name: Content(_clean(text), binary=True) for name, text in (item.binary_data or {}).items()})
    return ConfigObject(
        key=ObjectKey(meta.namespace, meta.name),
        contents=contents,
        change_set=annotations.get(CHANGE_SET),
        size=annotations.get(CHANGE_SET_SIZE),
        uid=meta.uid or "",
        version=meta.resource_version or "",
    )


def _clean(text: str) -> str:
    """A JSON escape can name half of a pair, which no UTF-8 can say."""
    return text.encode("utf-8", "replace").decode()


def _short(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'status', '')} {getattr(error, 'reason', '') or error}"[:300]
