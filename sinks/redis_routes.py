"""Route tables in Redis or Valkey: one Lua script, and one round trip, per publication.

All rules of concurrency are in `lua/*.lua`, because only there they are atomic. This module names keys, packs
arguments, and turns whatever goes wrong on the way into `StoreUnavailable`. It does not retry: after a timeout
nobody knows whether a publication was written, and only the caller's next one, by its base, finds out.
"""

from __future__ import annotations

import hashlib
import pkgutil
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from sinks.publication import log_fields, meta_fields, require_sense
from waypost.client.connection import connect, text
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.errors import PublicationRefused, StoreUnavailable
from waypost.model.fencing import (
    Fenced,
    NeedSnapshot,
    NotOpen,
    Opened,
    Outcome,
    Sight,
    StoredMeta,
    TablePart,
    WriterId,
    Written,
)
from waypost.model.health_window import WindowStats
from waypost.model.names import ServiceKey
from waypost.model.route_table import Publication
from waypost.wire.changes import encode_change
from waypost.wire.window_stats import encode_window_stats

CHANGES_MAXLEN = 100_000
"""Entries of `changes` kept, about: 1,000 s at 100 changes/s. A reader that was away longer rereads its tables."""

LOG_MAXLEN = 1_000
"""Revisions per service that `explain` finds without the audit topic."""

TIMEOUT = timedelta(milliseconds=250)
"""For connecting and for each answer. The caller holds up a stream meanwhile, so it is short; the largest
publication allowed (5,000 endpoints) takes about a fifth of it."""


class _Script:
    """A Lua script beside this package, called by its SHA-1 and sent in full only when the server lost it.

    Read through the import system and not by path: the package may live inside a zip. And read when this module is
    imported, not later: Flink's thread mode keeps the modules of a task's first attempt but deletes the files they
    came from.
    """

    def __init__(self, name: str) -> None:
        source = pkgutil.get_data("sinks", f"lua/{name}.lua")
        if source is None:
            raise FileNotFoundError(f"sinks/lua/{name}.lua is missing from this build")
        self._source = source
        self._sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: list[str], arguments: list[Any]) -> Any:
        try:
            return client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self._source, len(keys), *keys, *arguments)  # type: ignore[arg-type]


_LOOK = _Script("look")
_OPEN = _Script("open")
_PUBLISH = _Script("publish")
_PART = _Script("part")
_REFRESH = _Script("refresh")


class RedisRouteStore:
    """A `waypost.model.fencing.RouteStore` on a Redis or Valkey server, version 6 or later, not a Cluster.

    Takes a URL, or a client whose timeouts and retries are then the caller's. Thread-safe as the client is.
    """

    def __init__(
        self,
        server: redis.Redis | str,
        *,
        prefix: str = DEFAULT_PREFIX,
        changes_maxlen: int = CHANGES_MAXLEN,
        log_maxlen: int = LOG_MAXLEN,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self._redis = connect(server, timeout) if isinstance(server, str) else server
        self._keys = Keys(prefix)
        self._changes_maxlen = changes_maxlen
        self._log_maxlen = log_maxlen
        self._last_epoch = 0

    def open(self, writer: WriterId, now_ms: int, above: int = 0) -> Opened | Fenced:
        # A wiped store has forgotten its last epoch; this process has not, whatever its clock says now.
        reply = self._run(
            f"opening the route tables for job {writer.job_id}, attempt {writer.attempt}",
            _OPEN,
            [self._keys.epoch, self._keys.generation],
            [writer.job_id, writer.attempt, now_ms, self._last_epoch + 1, secrets.token_hex(8), above],
        )
        if reply[0] == "FENCED":
            return _fenced(reply)
        self._last_epoch = max(self._last_epoch, int(reply[1]))
        return Opened(int(reply[1]), reply[2])

    def look(self, epoch: int = 0) -> Sight:
        name, owner, signs = self._run(
            "looking at the store", _LOOK, [self._keys.epoch, self._keys.generation], [epoch]
        )
        return Sight(name or None, int(owner), int(signs))

    def meta(self, service: ServiceKey) -> StoredMeta | None:
        try:
            values: Any = self._redis.hmget(self._keys.meta(service), _META)
        except (RedisError, OSError) as error:
            raise _failure(f"reading meta of {service}", error) from error
        return _stored_meta(values)

    def part(self, service: ServiceKey, cursor: str, count: int) -> TablePart:
        keys = self._keys
        names = [keys.route(service), keys.meta(service), keys.instances(service), keys.services]
        try:
            reply: Any = _PART.run(self._redis, names, [str(service), cursor, count])
        except (RedisError, OSError) as error:
            raise _failure(f"reading the table of {service}", error) from error
        # Whatever is there that is no text is not ours, and shows as damage.
        flat = [part.decode(errors="replace") if isinstance(part, bytes) else part for part in reply[5]]
        return TablePart(
            meta=_stored_meta(reply[4]),
            endpoints=int(reply[1]),
            known=int(reply[2]),
            listed=bool(reply[3]),
            entries=tuple(zip(flat[::2], flat[1::2], strict=True)),
            cursor=text(reply[0]),
        )

    def publish(self, publication: Publication, epoch: int, now_ms: int) -> Outcome:
        require_sense(publication)
        keys, service = self._keys, publication.service
        reply = self._run(
            f"publishing revision {publication.revision} of {service}",
            _PUBLISH,
            [
                keys.route(service),
                keys.meta(service),
                keys.instances(service),
                keys.log(service),
                keys.readers(service),
                keys.services,
                keys.changes,
                keys.epoch,
            ],
            [self._request(publication, epoch, now_ms)],
        )
        return _outcome(reply)

    def refresh(self, service: ServiceKey, stats: WindowStats, epoch: int) -> Outcome:
        reply = self._run(
            f"writing the window of {service} that ended at {stats.end}",
            _REFRESH,
            [self._keys.meta(service), self._keys.epoch],
            [epoch, stats.end, *_flat(encode_window_stats(stats))],
        )
        return _outcome(reply)

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _request(self, publication: Publication, epoch: int, now_ms: int) -> bytes:
        """Return the one argument of the script. Many small ones would cost redis-py more than the server's work."""
        routes, instances = publication.routes, publication.instances
        return orjson.dumps(
            {
                "op": publication.op.value,
                "service": str(publication.service),
                "epoch": str(epoch),
                "base": str(publication.base),
                "revision": str(publication.revision),
                "changes_maxlen": str(self._changes_maxlen),
                "log_maxlen": str(self._log_maxlen),
                "meta": _flat(meta_fields(publication, epoch, now_ms)),
                "log": _flat(log_fields(publication)),
                "change": _flat(encode_change(publication)),
                "routes_set": _flat(routes),
                "routes_gone": [instance for instance, entry in routes.items() if entry is None],
                "instances_set": _flat(instances),
                "instances_gone": [instance for instance, entry in instances.items() if entry is None],
            }
        )

    def _run(self, doing: str, script: _Script, keys: list[str], arguments: list[Any]) -> list[str]:
        try:
            return [text(part) for part in script.run(self._redis, keys, arguments)]
        except (RedisError, OSError) as error:
            raise _failure(doing, error) from error


_META = ["revision", "epoch", "digest", "event_time", "position", "endpoints"]
"""The fields of `StoredMeta`; `lua/part.lua` names the same."""


def _stored_meta(values: list[Any]) -> StoredMeta | None:
    try:
        revision, epoch, digest, event_time, position, endpoints = map(text, values)
        if not revision:
            return None
        return StoredMeta(int(revision), int(epoch or 0), digest, int(event_time or 0), position, int(endpoints or 0))
    except ValueError:  # not ours; whatever it is, the next publication replaces it
        return StoredMeta(0, 0, "", 0, "", 0)


_REFUSALS = ("WRONGTYPE", "ERR")
"""Errors about this command and its keys. All others (OOM, READONLY, LOADING, MISCONF, …) speak of the server."""


def _flat(entries: Mapping[str, str | None]) -> list[str]:
    """Return `id, text, id, text, …`, without the entries that go away."""
    return [part for name, entry in entries.items() if entry is not None for part in (name, entry)]


def _outcome(reply: list[str]) -> Outcome:
    if reply[0] == "WRITTEN":
        return Written()
    if reply[0] == "NEED_SNAPSHOT":
        return NeedSnapshot(int(reply[1]))
    if reply[0] == "NOT_OPEN":
        return NotOpen()
    return _fenced(reply)


def _fenced(reply: list[str]) -> Fenced:
    return Fenced(WriterId(reply[1], int(reply[2])), int(reply[3]))


def _failure(doing: str, error: Exception) -> StoreUnavailable | PublicationRefused:
    """Return what an error of one service's command means: trouble with the server, or with this service's keys."""
    if isinstance(error, ResponseError) and str(error).startswith(_REFUSALS):
        return PublicationRefused(f"{doing}: {error}")
    return _unavailable(doing, error)


def _unavailable(doing: str, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"{doing}: {type(error).__name__}: {error}")
