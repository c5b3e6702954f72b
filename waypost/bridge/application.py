"""The bridge over HTTP.

    POST /alertmanager   Alertmanager's webhook. 200 when Kafka has every alert of it
    GET  /healthz        200 while the process serves

    400  no webhook of version 4         Alertmanager gives it up
    401  not the token                   gives it up
    413  larger than 8 MiB               gives it up
    503  Kafka has not taken all of it, or the body did not come within 10 s: Alertmanager sends it again, all of it

So an alert may be written twice, and never be lost between the two: whoever reads `alerts` tells copies by fingerprint
and startsAt. Alertmanager sends again after 5xx only.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from waypost.bridge.mapping import DEFAULT_MAPPING, LabelMapping
from waypost.bridge.webhook import MAX_BYTES, Notification, read_notification
from waypost.client.event_sink import BatchSink, Record
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.metrics import BRIDGE_ALERTS, BRIDGE_LAST, BRIDGE_REQUESTS, Metric
from waypost.wire.alerts import alert_key, encode_alert
from waypost.wire.dead_letter import encode_dead_letter

PATH = "/alertmanager"
SOURCE = "alertmanager"
"""What dead letters name as their topic: they come from no topic."""

BODY_S = 10.0
"""How long a body may take. Alertmanager sends at once; whoever drips holds a connection."""

WRITERS = 4
"""Notifications written at once. While Kafka is away each waits for seconds, the next ones are told so at once."""

_log = structlog.get_logger(__name__)


class Admission(Protocol):
    """Who tells whether a request may pass."""

    def admits(self, authorization: str) -> bool: ...


class Counts(Protocol):
    """Where the bridge counts."""

    def count(self, metric: Metric, *labels: str, times: int = 1) -> None: ...
    def now(self, metric: Metric) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Where alerts go, and what cannot become one."""

    alerts: str = "alerts"
    dead_letter: str = "dead-letter"


class Bridge:
    """The handlers. `admission` None: everybody may send (or TLS has checked before)."""

    def __init__(
        self,
        sink: BatchSink,
        counts: Counts,
        *,
        admission: Admission | None,
        mapping: LabelMapping = DEFAULT_MAPPING,
        topics: Topics | None = None,
    ) -> None:
        self._sink = sink
        self._counts = counts
        self._admission = admission
        self._mapping = mapping
        self._topics = topics or Topics()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._writing = 0

    async def notify(self, request: Request) -> Response:
        try:
            status, answer = 200, await self._take(request)
        except HTTPException as error:
            status, answer = error.status_code, {"status": "error", "reason": error.detail}
        self._counts.count(BRIDGE_REQUESTS, str(status))
        headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)
        return Response(orjson.dumps(answer), status, headers, "application/json")

    async def healthz(self, _request: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    def close(self) -> None:
        """Wait for what is being written."""
        self._writers.shutdown()

    async def _take(self, request: Request) -> dict[str, object]:
        if self._admission is not None and not self._admission.admits(request.headers.get("authorization", "")):
            # Before the body: a stranger's is not read.
            raise HTTPException(401, "the bearer token is missing or another")
        body = await _body(request)
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        if self._writing >= WRITERS:
            raise HTTPException(503, "busy: send it again")
        self._writing += 1
        try:
            # Reading thousands of alerts takes a while as well; the loop must go on answering.
            found = await loop.run_in_executor(self._writers, self._write, body)
        except DecodeError as error:
            _log.warning("refused a notification", reason=error.reason, detail=error.detail, bytes=len(body))
            raise HTTPException(400, str(error)) from None
        except RegistryUnavailable as error:
            _log.error("Kafka did not take a notification", error=str(error), bytes=len(body))
            raise HTTPException(503, "Kafka did not take it: send it again") from None
        finally:
            self._writing -= 1
        took = round((time.monotonic() - began) * 1_000)
        _log.info("wrote alerts", alerts=len(found.alerts), refused=len(found.refused), ms=took)
        self._counts.count(BRIDGE_ALERTS, "written", times=len(found.alerts))
        self._counts.count(BRIDGE_ALERTS, "refused", times=len(found.refused))
        self._counts.now(BRIDGE_LAST)
        return {"status": "ok", "alerts": len(found.alerts), "refused": len(found.refused)}

    def _write(self, body: bytes) -> Notification:
        found = read_notification(body, self._mapping)
        records = [Record(self._topics.alerts, alert_key(alert), encode_alert(alert)) for alert in found.alerts]
        for one in found.refused:
            letter = encode_dead_letter(SOURCE, 0, 0, one.reason, one.value, one.detail)
            records.append(Record(self._topics.dead_letter, SOURCE.encode(), letter))
            _log.warning("set an alert aside", reason=one.reason, detail=one.detail)
        self._sink.write_all(records)
        return found


async def _body(request: Request) -> bytes:
    told = request.headers.get("content-length", "")
    if told.isdecimal() and (len(told) > 12 or int(told) > MAX_BYTES):
        raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    try:
        return await asyncio.wait_for(_read(request), BODY_S)
    except asyncio.TimeoutError:
        raise HTTPException(503, f"the body did not come within {BODY_S:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the sender went away") from None


async def _read(request: Request) -> bytes:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise HTTPException(413, f"more than {MAX_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def make_application(bridge: Bridge) -> Starlette:
    """Return the application over a bridge."""
    app = Starlette(routes=[Route(PATH, bridge.notify, methods=["POST"]), Route("/healthz", bridge.healthz)])
    app.router.redirect_slashes = False
    return app
