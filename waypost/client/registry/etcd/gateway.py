"""etcd's v3 API through its JSON gateway: the six calls a registry needs.

Why no client library: of those that are kept, aetcd asks for a grpcio that PyFlink's pins exclude, and etcd3gw (2.7)
neither tells that a watch was cancelled because its history is compacted nor the revision of an answer, and takes each
chunk of HTTP for one message. The gateway is part of etcd since 3.4 and its JSON is the proto's.

Keys and values travel as base64; 64-bit numbers as strings. Every method raises RegistryUnavailable when etcd does not
answer in time or refuses.

Of several addresses the one that answered last is asked first, the others when it does not answer or has no leader.
Asking twice is harmless: a put, a delete and a transaction say what should be, and a lease that nobody uses ends.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson

from waypost.errors import RegistryUnavailable, SettingsError

TIMEOUT = timedelta(seconds=3)
"""For connecting and for each answer; Kitex takes the same."""

# A watch is silent for hours; a peer that is gone without a word must still be noticed.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0x10), 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key. `value` is None when it was deleted."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys under a prefix at one revision of one cluster."""

    cluster: str
    revision: int
    found: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Compacted:
    """The watch cannot begin where it should: history before `revision` is gone."""

    revision: int


@dataclass(frozen=True, slots=True)
class WatchPart:
    """Some changes, which belong together. The first part of a watch has none and says that it has begun."""

    revision: int
    changes: tuple[KeyValue, ...]


class EtcdGateway:
    """See the module. Safe to share between threads."""

    def __init__(self, *urls: str, tls: Tls | None = None, timeout: timedelta = TIMEOUT) -> None:
        """Raises SettingsError for TLS files that cannot be used."""
        self._urls = [url.rstrip("/") for url in urls]
        self._first = 0
        transport = httpx.HTTPTransport(
            verify=tls.context() if tls is not None else True,
            socket_options=_KEEPALIVE,
            limits=httpx.Limits(max_connections=None),
        )
        self._http = httpx.Client(timeout=timeout.total_seconds(), transport=transport, trust_env=False)

    @property
    def url(self) -> str:
        """Return the address that answered last."""
        return self._urls[self._first]

    def put(self, key: str, value: bytes, lease: int) -> None:
        """Write a key that lives as long as the lease."""
        self._call("/v3/kv/put", {"key": _base64(key), "value": _base64(value), "lease": str(lease)})

    def put_if_same(self, old: KeyValue, value: bytes) -> bool:
        """Replace a value, keeping the key's lease, unless somebody has written it since; return whether it was."""
        key = _base64(old.key)
        compare = {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(old.revision)}
        put = {"key": key, "value": _base64(value), "ignore_lease": True}
        answer = self._call("/v3/kv/txn", {"compare": [compare], "success": [{"request_put": put}]})
        return bool(answer.get("succeeded", False))

    def delete(self, key: str) -> None:
        """Delete a key, if it is there."""
        self._call("/v3/kv/deleterange", {"key": _base64(key)})

    def get(self, key: str) -> KeyValue | None:
        """Return one key."""
        found = self._call("/v3/kv/range", {"key": _base64(key)}).get("kvs", [])
        return _key_value(found[0]) if found else None

    def list(self, prefix: str, *, keys_only: bool = False) -> Listing:
        """Return all keys that begin with `prefix`, at one moment."""
        answer = self._call("/v3/kv/range", {**_range(prefix), "keys_only": keys_only})
        header = answer.get("header", {})
        return Listing(
            cluster=str(header.get("cluster_id", "")),
            revision=int(header.get("revision", 0)),
            found=tuple(_key_value(item) for item in answer.get("kvs", [])),
        )

    def grant(self, lease: timedelta) -> int:
        """Return a new lease."""
        return int(self._call("/v3/lease/grant", {"TTL": str(int(lease.total_seconds()))})["ID"])

    def keep_alive(self, lease: int) -> bool:
        """Renew a lease; False: it has ended."""
        answer = self._call("/v3/lease/keepalive", {"ID": str(lease)})
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; one that has ended is no fault."""
        with contextlib.suppress(LeaseGone):
            self._call("/v3/lease/revoke", {"ID": str(lease)})

    def open_watch(self, prefix: str, revision: int) -> EtcdStream:
        """Follow all keys under `prefix` from `revision` on."""
        return EtcdStream(self._http, self.url, {"create_request": {**_range(prefix), "start_revision": str(revision)}})

    def close(self) -> None:
        self._http.close()

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        begin = self._first
        failures = []
        for number in (*range(begin, len(self._urls)), *range(begin)):
            try:
                answer = self._ask(self._urls[number], path, body)
            except LeaseGone:
                self._first = number
                raise
            except RegistryUnavailable as error:
                failures.append(error)
                continue
            self._first = number
            return answer
        if len(failures) == 1:
            raise failures[0]
        raise RegistryUnavailable("; ".join(map(str, failures)))

    def _ask(self, url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.post(f"{url}{path}", content=orjson.dumps(body))
            document = orjson.loads(answer.content) if answer.content else {}
        except (httpx.HTTPError, orjson.JSONDecodeError, RuntimeError) as error:
            raise _unavailable(url, path, f"{type(error).__name__}: {error}") from error
        if answer.status_code == 404 and document.get("code") == 5:
            raise LeaseGone(str(document.get("message", "")))
        if answer.status_code != 200 or not isinstance(document, dict) or "error" in document:
            raise _unavailable(url, path, f"status {answer.status_code}: {answer.text[:200]}")
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in PEM. `ca` None: the system's authorities; `cert` and `key`, who we are, together or not at all."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return what a connection is made with. Raises SettingsError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (self.ca, self.cert, self.key) if file is not None)
            raise SettingsError(f"the TLS files {files} cannot be used: {error}") from error
        return context


def _unavailable(url: str, path: str, why: str) -> RegistryUnavailable:
    return RegistryUnavailable(f"etcd at {url} did not answer {path}: {why}. Check the address and that it runs")


class LeaseGone(RegistryUnavailable):
    """The lease has ended; ask for another one."""


class EtcdStream:
    """A watch. `parts` belongs to one thread; `close` may be called from any and ends it."""

    def __init__(self, http: httpx.Client, url: str, request: dict[str, Any]) -> None:
        self._http = http
        self._url = url
        self._request = request
        self._socket: socket.socket | None = None
        self._closed = False

    def parts(self) -> Iterator[WatchPart | Compacted]:
        """Yield what happens until the stream is cut or closed. Raises RegistryUnavailable when it cannot begin, or
        is cut."""
        timeout = httpx.Timeout(self._http.timeout.connect, read=None)
        try:
            with self._http.stream(
                "POST",
                f"{self._url}/v3/watch",
                content=orjson.dumps(self._request),
                # A member that has lost the others would say nothing for ever; so it ends the watch.
                headers={"Grpc-Metadata-hasleader": "true"},
                timeout=timeout,
            ) as response:
                if response.status_code != 200:
                    raise RegistryUnavailable(f"etcd refused a watch: status {response.status_code}")
                self._socket = response.extensions["network_stream"].get_extra_info("socket")
                if self._closed:
                    return
                for line in response.iter_lines():
                    if line.strip():
                        yield _part(orjson.loads(line))
        except (httpx.HTTPError, httpx.StreamError, orjson.JSONDecodeError, RuntimeError, OSError) as error:
            raise RegistryUnavailable(f"a watch of etcd was cut: {type(error).__name__}: {error}") from error
        finally:
            self._socket = None

    def close(self) -> None:
        """End `parts`, also while it waits."""
        self._closed = True
        open_socket = self._socket
        if open_socket is not None:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)


def _part(document: dict[str, Any]) -> WatchPart | Compacted:
    if "error" in document:
        raise RegistryUnavailable(f"etcd ended a watch: {str(document['error'])[:200]}")
    result = document.get("result", {})
    if result.get("compact_revision"):
        return Compacted(int(result["compact_revision"]))
    if result.get("canceled"):
        raise RegistryUnavailable(f"etcd ended a watch: {result.get('cancel_reason', 'it says not why')}")
    changes = [_key_value(e["kv"], deleted=e.get("type") == "DELETE") for e in result.get("events", [])]
    return WatchPart(int(result.get("header", {}).get("revision", 0)), tuple(changes))


def _key_value(item: dict[str, Any], *, deleted: bool = False) -> KeyValue:
    key = base64.b64decode(item["key"]).decode(errors="replace")
    value = None if deleted else base64.b64decode(item.get("value", ""))
    return KeyValue(key, value, int(item.get("mod_revision", 0)))


def _range(prefix: str) -> dict[str, str]:
    last = prefix.encode()
    return {"key": _base64(last), "range_end": _base64(last[:-1] + bytes([last[-1] + 1]))}


def _base64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()
