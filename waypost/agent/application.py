"""The agent over HTTP, on its unix socket. `/openapi.json` describes it; docs/agent.md shows it with curl.

    PUT    /v1/instances/{service}/{instance}               register, or register anew        ?wait=SECONDS
    POST   /v1/instances/{service}/{instance}/drain         take it out of the table          ?wait=SECONDS&readers=…
    DELETE /v1/instances/{service}/{instance}               deregister                        ?wait=SECONDS
    GET    /v1/instances      …/{service}/{instance}        what this agent looks after
    GET    /v1/instances/{service}/{instance}/registered    what the tables say: am I registered?
    GET    /v1/services       …/{service}                   who is there; its callable instances
    GET    /v1/services/{service}/pick                      one of them                       ?key=TEXT
    GET    /v1/services/{service}/watch                     server-sent events
    GET    /healthz  /readyz  /metrics  /openapi.json

200: done, and the log has it. 202: noted, and the log will have it as soon as Kafka takes it. Requests whose host ends
with `.waypost` are not for the agent: see `waypost.agent.proxy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from waypost.agent.lookups import Lookups, TooManyServices
from waypost.agent.member import MAX_BYTES, Who, member_document, read_member
from waypost.agent.openapi import DOCUMENT
from waypost.agent.proxy import proxied
from waypost.agent.roster import Roster, Standing, TooMany, UnknownMember
from waypost.agent.teller import Teller
from waypost.agent.watching import events, instance_document
from waypost.client.draining import Drained
from waypost.client.failover import CallFailed
from waypost.client.registry.aio import AsyncWatch
from waypost.client.registry.instance import checked_id, checked_service
from waypost.errors import DecodeError, InvalidInstance, RegistryUnavailable, UnknownService
from waypost.wire.endpoint import KnownInstance

T = TypeVar("T")


class Tables(Protocol):
    """What the agent asks the tables about its own instances; `WaypostRegistry` answers."""

    def known(self, service: str, instance: str) -> KnownInstance | None: ...
    def wait_until_left(self, service: str, instance: str, timeout: timedelta) -> Drained: ...


WAIT = timedelta(seconds=5)
LONGEST_WAIT_S = 60.0
WAITERS = 16
"""Requests that wait for the log at once; more wait for their turn. Each is a thread."""

CHANGES = 2

MAX_WATCHES = 64
"""Each has a thread too."""


class Metrics(Protocol):
    """What `/metrics` answers."""

    def text(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What this agent adds to what it is told, and what it lets itself be told."""

    namespace: str
    node: str = ""
    zone: str = ""
    allow_exec: bool = False


class Api:
    """The handlers. `lookups` and `tables` None: no tables are known here."""

    def __init__(
        self, teller: Teller, lookups: Lookups | None, tables: Tables | None, metrics: Metrics, rules: Rules
    ) -> None:
        self._teller = teller
        self._lookups = lookups
        self._own = tables
        self._metrics = metrics
        self._rules = rules
        # Apart: who waits for Kafka must not keep others from being noted.
        self._changes = ThreadPoolExecutor(CHANGES, thread_name_prefix="change")
        self._waiters = ThreadPoolExecutor(WAITERS, thread_name_prefix="waiter")
        self._watches = 0
        self.is_ending = False
        """Nobody is taken in any more."""
        self.is_over = False
        """Watches end too."""

    # -- instances -------------------------------------------------------------------------------------

    async def register(self, request: Request) -> Response:
        self._require_open()
        who, wait = _who(request), _wait(request)
        try:
            doc = orjson.loads(await _body(request))
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"not JSON: {error}") from None
        if not isinstance(doc, dict):
            raise HTTPException(400, "not a JSON object")
        member = read_member(who, doc, node=self._rules.node, zone=self._rules.zone)
        if member.check.kind == "exec" and not self._rules.allow_exec:
            raise HTTPException(403, "this agent runs no programs: start it with --allow-exec")
        await _in(self._changes, self._teller.change, lambda roster: roster.register(member))
        return await self._told(who, wait)

    async def drain(self, request: Request) -> Response:
        self._require_open()
        who, wait = _who(request), _wait(request)
        patience = _seconds(request, "readers")
        own = self._own if patience is None else self._tables_of(self._own)
        await _in(self._changes, self._teller.change, lambda roster: roster.drain(who))
        answer = await self._told(who, wait)
        if patience is None or own is None or answer.status_code != 200:
            return answer
        drained = await _in(self._waiters, own.wait_until_left, who.service, who.instance, patience)
        standing = self._teller.read(lambda roster: roster.standing(who))
        return _json({**_document(standing), "waiting": sorted(drained.waiting)})

    async def deregister(self, request: Request) -> Response:
        who, wait = _who(request), _wait(request)
        await _in(self._changes, self._teller.change, lambda roster: roster.deregister(who))
        return await self._told(who, wait)

    async def instances(self, _request: Request) -> Response:
        return _json({"instances": [_document(each) for each in self._teller.read(list)]})

    async def instance(self, request: Request) -> Response:
        who = _who(request)
        return _json(_document(self._teller.read(lambda roster: roster.standing(who))))

    async def registered(self, request: Request) -> Response:
        who, own = _who(request), self._tables_of(self._own)
        known = await self._tables().ask(own.known, who.service, who.instance)
        if known is None:
            return _json({"registered": False, "routable": False, "status": None, "reason": "unknown-instance"}, 404)
        return _json(
            {"registered": True, "routable": known.routable, "status": known.status.value, "reason": known.reason}
        )

    # -- services --------------------------------------------------------------------------------------

    async def services(self, _request: Request) -> Response:
        lookups = self._tables()
        return _json({"services": await lookups.ask(lookups.registry.list_services)})

    async def service(self, request: Request) -> Response:
        table = await self._tables().table(request.path_params["service"])
        age = table.age(time.time_ns() // 1_000_000).total_seconds()
        return _json(
            {
                "service": table.service,
                "instances": [instance_document(each) for each in table.instances],
                "stale": table.is_stale,
                "stale_seconds": round(age, 3),
            },
            headers={"X-Waypost-Stale": str(table.is_stale).lower()},
        )

    async def pick(self, request: Request) -> Response:
        chosen = await self._tables().pick(request.path_params["service"], request.query_params.get("key"))
        return _json(instance_document(chosen))

    async def watch(self, request: Request) -> Response:
        service, lookups = checked_service(request.path_params["service"]), self._tables()
        if self._watches >= MAX_WATCHES:
            raise HTTPException(503, f"{MAX_WATCHES} watches are open already")
        self._watches += 1
        try:
            watch = AsyncWatch(await lookups.ask(lookups.registry.watch, service))
        except BaseException:
            self._watches -= 1
            raise

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for part in events(watch, service, lambda: self.is_over):
                    yield part
            finally:
                self._watches -= 1
                await watch.close()

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    # -- about itself ----------------------------------------------------------------------------------

    async def healthz(self, _request: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Ready while the log has all it should: what is registered here is known out there."""
        written, untold = self._teller.written, self._teller.read(untold_of)
        is_ready = not written.is_failing and not self.is_ending
        status = "ending" if self.is_ending else "ready" if is_ready else "Kafka does not take records"
        return _json({"status": status, "untold": untold}, 200 if is_ready else 503)

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, _request: Request) -> Response:
        return _json(DOCUMENT)

    def close(self) -> None:
        """Let go of everybody who waits."""
        self._changes.shutdown()
        self._waiters.shutdown(wait=False, cancel_futures=True)

    # -- inside ----------------------------------------------------------------------------------------

    async def _told(self, who: Who, wait: timedelta) -> Response:
        """Wait until the log has what was just said, and answer how far that came."""
        await _in(self._waiters, self._teller.wait, lambda roster: _is_told(roster, who), wait)
        standing = self._teller.read(lambda roster: _found(roster, who))
        if standing is None:
            return _json({"service": who.service, "instance": who.instance, "stage": None, "told": True})
        return _json(_document(standing), 200 if standing.is_told else 202)

    def _require_open(self) -> None:
        if self.is_ending:
            raise HTTPException(503, "this agent is ending")

    def _tables(self) -> Lookups:
        return self._tables_of(self._lookups)

    def _tables_of(self, found: T | None) -> T:
        if found is None:
            raise HTTPException(501, "this agent was given no Redis, so it knows no tables: start it with --redis URL")
        return found


class _ByHost:
    """Sends requests for `*.waypost` to the proxy, all others to the agent."""

    def __init__(self, api: ASGIApp, proxy: ASGIApp | None) -> None:
        self._api = api
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if proxied(scope) is None:
            await self._api(scope, receive, send)
        elif self._proxy is None:
            answer = _json({"status": "error", "reason": "this agent was given no Redis, so it knows no services"}, 501)
            await answer(scope, receive, send)
        else:
            await self._proxy(scope, receive, send)


def routes(api: Api) -> list[Route]:
    """Return what is served; `waypost.agent.openapi` describes it."""
    one = "/v1/instances/{service}/{instance}"
    return [
        Route("/v1/instances", api.instances),
        Route(one, api.register, methods=["PUT"]),
        Route(one, api.deregister, methods=["DELETE"]),
        Route(one, api.instance),
        Route(f"{one}/drain", api.drain, methods=["POST"]),
        Route(f"{one}/registered", api.registered),
        Route("/v1/services", api.services),
        Route("/v1/services/{service}", api.service),
        Route("/v1/services/{service}/pick", api.pick),
        Route("/v1/services/{service}/watch", api.watch),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
        Route("/metrics", api.metrics),
        Route("/openapi.json", api.openapi),
    ]


def make_application(api: Api, proxy: ASGIApp | None) -> ASGIApp:
    """Return the application."""
    app = Starlette(routes=routes(api), exception_handlers={HTTPException: _refuse, **dict.fromkeys(_STATUS, _explain)})
    app.router.redirect_slashes = False
    return _ByHost(app, proxy)


def proxy_only(proxy: ASGIApp) -> ASGIApp:
    """Return the application for a port that others than the owner of the socket may reach: it takes no orders."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            answer = _json({"status": "error", "reason": "this port is a proxy for http://<service>.waypost/"}, 421)
            await answer(scope, receive, send)

    return _ByHost(nothing, proxy)


_STATUS: dict[type[Exception], int] = {
    DecodeError: 400,
    InvalidInstance: 400,
    UnknownMember: 404,
    UnknownService: 404,
    CallFailed: 503,
    RegistryUnavailable: 503,
    TooMany: 507,
    TooManyServices: 503,
}


async def _in(pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


def untold_of(roster: Roster) -> int:
    """Return of how many instances the log does not know all yet."""
    return sum(not each.is_told for each in roster)


def _is_told(roster: Roster, who: Who) -> bool:
    standing = _found(roster, who)
    return standing is None or standing.is_told


def _found(roster: Roster, who: Who) -> Standing | None:
    with contextlib.suppress(UnknownMember):
        return roster.standing(who)
    return None


def _document(standing: Standing) -> dict[str, Any]:
    who = standing.member.who
    return {
        "service": who.service,
        "instance": who.instance,
        "stage": standing.stage.value,
        "health": standing.health.value,
        "told": standing.is_told,
        **member_document(standing.member),
    }


def _who(request: Request) -> Who:
    return Who(checked_service(request.path_params["service"]), checked_id(request.path_params["instance"]))


def _wait(request: Request) -> timedelta:
    said = _seconds(request, "wait")
    return WAIT if said is None else said


def _seconds(request: Request, name: str) -> timedelta | None:
    said = request.query_params.get(name)
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_S:
        raise HTTPException(400, f"{name} is in seconds, from 0 to {LONGEST_WAIT_S:g}")
    return timedelta(seconds=seconds)


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the sender went away") from None
    return body


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"status": "error", "reason": error.detail}, error.status_code, error.headers)


async def _explain(_request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    return _json({"status": "error", "reason": str(error)}, status)


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
