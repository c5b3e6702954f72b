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
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from waypost.agent.exchange import answer, body_of, seconds, who_of
from waypost.agent.lookups import Lookups
from waypost.agent.member import Who, member_document, read_member
from waypost.agent.openapi import DOCUMENT
from waypost.agent.roster import Roster, Standing, UnknownMember
from waypost.agent.teller import Teller
from waypost.agent.watching import events, instance_document
from waypost.client.draining import Drained
from waypost.client.registry.aio import AsyncWatch
from waypost.client.registry.instance import checked_service
from waypost.wire.endpoint import KnownInstance

T = TypeVar("T")


class Tables(Protocol):
    """What the agent asks the tables about its own instances; `WaypostRegistry` answers."""

    def known(self, service: str, instance: str) -> KnownInstance | None: ...
    def wait_until_left(self, service: str, instance: str, timeout: timedelta) -> Drained: ...


WAIT = timedelta(seconds=5)
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
        who, wait = who_of(request), seconds(request, "wait", WAIT)
        try:
            doc = orjson.loads(await body_of(request))
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
        who, wait = who_of(request), seconds(request, "wait", WAIT)
        patience = seconds(request, "readers", None)
        own = self._own if patience is None else self._tables_of(self._own)
        await _in(self._changes, self._teller.change, lambda roster: roster.drain(who))
        told = await self._told(who, wait)
        if patience is None or own is None or told.status_code != 200:
            return told
        drained = await _in(self._waiters, own.wait_until_left, who.service, who.instance, patience)
        standing = self._teller.read(lambda roster: roster.standing(who))
        return answer({**_document(standing), "waiting": sorted(drained.waiting)})

    async def deregister(self, request: Request) -> Response:
        who, wait = who_of(request), seconds(request, "wait", WAIT)
        await _in(self._changes, self._teller.change, lambda roster: roster.deregister(who))
        return await self._told(who, wait)

    async def instances(self, _request: Request) -> Response:
        return answer({"instances": [_document(each) for each in self._teller.read(list)]})

    async def instance(self, request: Request) -> Response:
        who = who_of(request)
        return answer(_document(self._teller.read(lambda roster: roster.standing(who))))

    async def registered(self, request: Request) -> Response:
        who, own = who_of(request), self._tables_of(self._own)
        known = await self._tables().ask(own.known, who.service, who.instance)
        if known is None:
            return answer({"registered": False, "routable": False, "status": None, "reason": "unknown-instance"}, 404)
        return answer(
            {"registered": True, "routable": known.routable, "status": known.status.value, "reason": known.reason}
        )

    # -- services --------------------------------------------------------------------------------------

    async def services(self, _request: Request) -> Response:
        lookups = self._tables()
        return answer({"services": await lookups.ask(lookups.registry.list_services)})

    async def service(self, request: Request) -> Response:
        table = await self._tables().table(request.path_params["service"])
        age = table.age(time.time_ns() // 1_000_000).total_seconds()
        return answer(
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
        return answer(instance_document(chosen))

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
        return answer({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Ready while the log has all it should: what is registered here is known out there."""
        written, untold = self._teller.written, self._teller.read(untold_of)
        is_ready = not written.is_failing and not self.is_ending
        status = "ending" if self.is_ending else "ready" if is_ready else "Kafka does not take records"
        return answer({"status": status, "untold": untold}, 200 if is_ready else 503)

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, _request: Request) -> Response:
        return answer(DOCUMENT)

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
            return answer({"service": who.service, "instance": who.instance, "stage": None, "told": True})
        return answer(_document(standing), 200 if standing.is_told else 202)

    def _require_open(self) -> None:
        if self.is_ending:
            raise HTTPException(503, "this agent is ending")

    def _tables(self) -> Lookups:
        return self._tables_of(self._lookups)

    def _tables_of(self, found: T | None) -> T:
        if found is None:
            raise HTTPException(501, "this agent was given no Redis, so it knows no tables: start it with --redis URL")
        return found


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
