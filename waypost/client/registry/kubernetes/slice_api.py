"""The two calls a registry needs of the API server: list the EndpointSlices of a namespace, and watch them.

Why not the informer of the official client (37): it neither says since when nothing confirms what it has, nor can it go
on from a position of another process, nor is its watch ended but by the server. Its client does the rest: credentials
and their renewal, TLS, proxies.

Every call raises RegistryUnavailable when the server does not answer in time or refuses; of those that say more,
HistoryGone, and WatchEnded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import orjson
import urllib3
from kubernetes import client, config

from waypost.client.registry.kubernetes.address import KubernetesAddress
from waypost.client.registry.kubernetes.connection import connect
from waypost.errors import RegistryUnavailable

CONNECT, ANSWER = timedelta(seconds=3), timedelta(seconds=10)
SILENCE = timedelta(seconds=150)
"""A server that sends nothing for longer is not there any more: there is a bookmark every minute. One that sends none
costs a new watch as often."""

PAGE = 500
MAX_EVENT = 16 * 1024 * 1024
"""Bytes; etcd, and so the API server, takes objects of 1.5 MiB."""

_GONE, _FUTURE = 410, ("ResourceVersionTooLarge", "future revision", "Too large resource version")


class HistoryGone(RegistryUnavailable):
    """The server has nothing of that version: it is compacted, or was never one of this store."""


class WatchEnded(RegistryUnavailable):
    """The server ended a watch with an ERROR event: what it would have told is lost, list again."""


@dataclass(frozen=True, slots=True)
class Listing:
    """EndpointSlices at one version of the store."""

    version: str
    found: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """The server follows; the first part of every watch."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """All that happened up to this version has been told."""

    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One slice as it is now, or as it was when it was deleted."""

    version: str
    doc: Any
    is_deleted: bool


Part = Opened | Bookmark | Change


class SliceApi:
    """See the module; one namespace. Safe to share between threads."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._client = api
        self._api = client.DiscoveryV1Api(api)
        self.namespace = namespace
        self.server = str(api.configuration.host)

    @classmethod
    def at(cls, where: KubernetesAddress) -> SliceApi:
        """Raises SettingsError."""
        return cls(*connect(where))

    def list(self, selector: str, *, at: str | None = None) -> Listing:
        """Return all slices with these labels, as they are now or were exactly `at` a version. Raises HistoryGone."""
        found: list[Any] = []
        more: str | None = None
        while True:
            # A page after the first is of the same version by itself.
            exact = {"resource_version": at, "resource_version_match": "Exact"} if at and not more else {}
            page = self._get(label_selector=selector, limit=PAGE, _continue=more, **exact)
            found += page.get("items") or []
            metadata = page.get("metadata") or {}
            more = metadata.get("continue")
            if not more:
                return Listing(str(metadata.get("resourceVersion", "")), tuple(found))

    def version(self) -> str:
        """Return the version of the store now."""
        return str((self._get(limit=1).get("metadata") or {}).get("resourceVersion", ""))

    def open_watch(self, selector: str, version: str) -> SliceStream:
        """Follow all slices with these labels from a version on."""
        return SliceStream(self, selector, version)

    def close(self) -> None:
        self._client.rest_client.close()

    def _get(self, **query: Any) -> dict[str, Any]:
        try:
            with self._ask(ANSWER, **query) as response:
                page = orjson.loads(response.read())
        except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError, OSError) as error:
            raise self._unavailable(error) from error
        if not isinstance(page, dict):
            raise self._unavailable("an answer that is no object")
        return page

    def _ask(self, timeout: timedelta, **query: Any) -> urllib3.HTTPResponse:
        try:
            response = self._api.list_namespaced_endpoint_slice(
                self.namespace,
                _preload_content=False,
                _request_timeout=(CONNECT.total_seconds(), timeout.total_seconds()),
                **{name: value for name, value in query.items() if value is not None},
            )
        except client.ApiException as error:
            raise self._refused(error) from error
        # Credentials are renewed on the way, too: a token that is being written may be empty for a moment.
        except (urllib3.exceptions.HTTPError, client.OpenApiException, config.ConfigException, OSError) as error:
            raise self._unavailable(error) from error
        return cast(urllib3.HTTPResponse, response)  # not what it would be with _preload_content

    def _refused(self, error: client.ApiException) -> RegistryUnavailable:
        body = error.body if isinstance(error.body, str) else (error.body or b"").decode(errors="replace")
        if error.status == _GONE or any(sign in body for sign in _FUTURE):
            return HistoryGone(f"{self._where()} has nothing of that version: {body[:200]}")
        if error.status == 403:
            return RegistryUnavailable(
                f"{self._where()} refuses: grant get, list and watch on endpointslices of discovery.k8s.io there. "
                f"{body[:300]}"
            )
        return RegistryUnavailable(f"{self._where()} answers with status {error.status}: {body[:200]}")

    def _unavailable(self, why: object) -> RegistryUnavailable:
        said = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
        return RegistryUnavailable(f"{self._where()} does not answer: {said}. Check the address and that it runs")

    def _where(self) -> str:
        return f"Kubernetes at {self.server}, namespace {self.namespace},"


class SliceStream:
    """A watch. `parts` belongs to one thread; `close` may be called from any and ends it."""

    def __init__(self, api: SliceApi, selector: str, version: str) -> None:
        self._api = api
        self._selector = selector
        self._version = version
        self._response: urllib3.HTTPResponse | None = None
        self._closed = threading.Event()

    def parts(self) -> Generator[Part, None, None]:
        """Yield what happens until the server ends the watch in good order, which it does every few minutes, or it is
        closed. Raises HistoryGone, WatchEnded, and RegistryUnavailable when it cannot begin or is cut."""
        response = self._api._ask(
            SILENCE,
            watch=True,
            label_selector=self._selector,
            resource_version=self._version,
            allow_watch_bookmarks=True,
        )
        self._response = response
        try:
            if self._closed.is_set():
                return
            yield Opened()
            for line in _lines(response):
                if self._closed.is_set():
                    return
                yield _part(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            if not self._closed.is_set():
                raise RegistryUnavailable(f"a watch of Kubernetes was cut: {type(error).__name__}: {error}") from error
        finally:
            self._response = None
            response.close()  # it is in the middle of an answer: nobody can use this connection again

    def close(self) -> None:
        """End `parts`, also while it waits."""
        self._closed.set()
        response = self._response
        if response is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                response.shutdown()


def _lines(response: urllib3.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
        if len(rest) > MAX_EVENT:
            raise ValueError(f"an event has more than {MAX_EVENT} bytes")


def _part(line: bytes) -> Part:
    event = orjson.loads(line)
    kind, doc = event["type"], event["object"]
    if kind == "ERROR":
        said = f"{doc.get('code')} {doc.get('reason')}: {str(doc.get('message'))[:200]}"
        raise HistoryGone(said) if doc.get("code") == _GONE else WatchEnded(f"Kubernetes ended a watch: {said}")
    version = str(doc["metadata"]["resourceVersion"])
    return Bookmark(version) if kind == "BOOKMARK" else Change(version, doc, kind == "DELETED")
