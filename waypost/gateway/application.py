"""The feed over HTTP: Traefik's HTTP provider, Envoy's xDS over REST, and two questions for whoever runs it.

    GET  /traefik                  dynamic configuration; ETag
    POST /v3/discovery:endpoints   EDS      POST /v3/discovery:clusters   CDS      POST /v3/discovery:routes   RDS
    GET  /healthz                  200 while the process serves
    GET  /readyz                   200 from the first tables on, stale or not; 503 before

Before the first tables everything is 503, because gateways keep what they have then; an empty answer they would obey.

Envoy asks per cluster, and sends 77 kB about itself with every question (1.40). So a question to which there is nothing
new is held, for half of the time that Envoy says it will wait, and answered the moment there is. That is what makes
many clusters bearable, and a change faster than any refresh delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from waypost.gateway import envoy, traefik
from waypost.gateway.feed import Feed, Tables
from waypost.gateway.pool import Pool
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

_log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
MAX_NAMES = 10_000
_HOLD_HEADER = "x-envoy-expected-rq-timeout-ms"
_HOLD_SHARE = 0.5
"""Of the asker's patience. The rest is for a slow machine: an answer that comes too late is a failure to Envoy."""
_LONGEST_HOLD_S = 30.0
_ALL = "*"
"""The bell for services that come and go. No service is called so."""


class Json(Response):
    """A JSON answer; `content` is bytes that are JSON already, or anything that becomes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else orjson.dumps(content)


class Bells:
    """Wakes those who wait for news about something. Belongs to the event loop; `ring` may be called from anywhere."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.closed = False

    def ring(self, names: Iterable[str]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake, list(names))

    def close(self) -> None:
        """Wake everybody, for good."""
        self.closed = True
        self._wake(list(self._waiting))

    @contextlib.contextmanager
    def listening(self, names: Iterable[str]) -> Iterator[asyncio.Event]:
        """Return an event that is set by the next `ring` for any of the names. Listen first, then look."""
        names, rung = list(names), asyncio.Event()
        for name in names:
            self._waiting[name].add(rung)
        try:
            yield rung
        finally:
            for name in names:
                self._waiting[name].discard(rung)
                if not self._waiting[name]:
                    del self._waiting[name]

    def _wake(self, names: list[str]) -> None:
        for name in names:
            for rung in self._waiting.get(name, ()):
                rung.set()


class TraefikDocument:
    """The document of the HTTP provider; what did not change since it was last asked for is not written anew."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._parts: dict[ServiceKey, tuple[Pool, traefik.Tree]] = {}
        self._number = -1
        self._body = b""
        self._etag = ""

    def of(self, tables: Tables) -> tuple[bytes, str]:
        """Return the document and its ETag."""
        if tables.number != self._number:
            self._parts = {service: self._part(service, pool) for service, pool in sorted(tables.pools.items())}
            self._body = traefik.document(tree for _, tree in self._parts.values())
            self._etag = f'"{blake2b(self._body, digest_size=8).hexdigest()}"'
            self._number = tables.number
        return self._body, self._etag

    def _part(self, service: ServiceKey, pool: Pool) -> tuple[Pool, traefik.Tree]:
        known = self._parts.get(service)
        if known is not None and known[0] is pool:
            return known
        tree = traefik.definitions(service, pool, self._rules)
        written = {
            kind: {name: orjson.Fragment(orjson.dumps(definition)) for name, definition in named.items()}
            for kind, named in tree.items()
        }
        return pool, written


class Discovery:
    """What Envoy is told."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._assignments: dict[ServiceKey, tuple[Pool, bytes]] = {}
        self._served: dict[str, tuple[frozenset[ServiceKey], envoy.Said]] = {}

    def endpoints(self, tables: Tables, services: Iterable[ServiceKey]) -> envoy.Said:
        """Return the endpoints of those services that there are; Envoy keeps what it has of the others."""
        return envoy.said(self._assignment(s, tables.pools[s]) for s in services if s in tables.pools)

    def clusters(self, tables: Tables) -> envoy.Said:
        """Return a cluster per service."""
        return self._once_per_set(
            envoy.CLUSTERS, tables, lambda: envoy.said(envoy.cluster(service) for service in sorted(tables.pools))
        )

    def routes(self, tables: Tables) -> envoy.Said:
        """Return the routes to all services."""
        return self._once_per_set(
            envoy.ROUTES, tables, lambda: envoy.said([envoy.routes(sorted(tables.pools), self._rules)])
        )

    def _once_per_set(self, kind: str, tables: Tables, say: Callable[[], envoy.Said]) -> envoy.Said:
        """Clusters and routes depend on which services there are, and not on their endpoints."""
        services = frozenset(tables.pools)
        known = self._served.get(kind)
        if known is None or known[0] != services:
            known = self._served[kind] = services, say()
        return known[1]

    def _assignment(self, service: ServiceKey, pool: Pool) -> bytes:
        known = self._assignments.get(service)
        if known is not None and known[0] is pool:
            return known[1]
        if left_out := envoy.unresolved(pool):
            _log.warning("%d endpoints of %s are DNS names, which Envoy cannot take by EDS", left_out, service)
        written = orjson.dumps(envoy.load_assignment(service, pool))
        self._assignments[service] = (pool, written)
        return written


class Edge:
    """The handlers."""

    def __init__(self, feed: Feed, rules: Rules) -> None:
        self._feed = feed
        self._traefik = TraefikDocument(rules)
        self._discovery = Discovery(rules)
        self._bells: Bells | None = None
        self._refused: set[str] = set()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._bells = bells = Bells()

        def tell(changed: frozenset[ServiceKey], came_or_went: bool) -> None:
            bells.ring([*map(str, changed), *([_ALL] if came_or_went else [])])

        self._feed.listen(tell)
        try:
            yield
        finally:
            bells.close()

    def release(self) -> None:
        """Answer every held question now: the process is going to end."""
        if self._bells is not None:
            self._bells.close()

    async def traefik(self, request: Request) -> Response:
        tables = self._require_tables()
        body, etag = self._traefik.of(tables)
        headers = {"ETag": etag, "Cache-Control": "no-cache", "X-Waypost-Stale": str(self._feed.stale).lower()}
        if etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        return Json(body, headers=headers)

    async def endpoints(self, request: Request) -> Response:
        question = await _question(request)
        services = [service for name in question.names if (service := _service(name)) is not None]
        self._feed.want_draining(*services)
        return await self._answer(
            request,
            question,
            envoy.ENDPOINTS,
            question.names,
            lambda tables: self._discovery.endpoints(tables, services),
        )

    async def clusters(self, request: Request) -> Response:
        return await self._answer(request, await _question(request), envoy.CLUSTERS, [_ALL], self._discovery.clusters)

    async def routes(self, request: Request) -> Response:
        return await self._answer(request, await _question(request), envoy.ROUTES, [_ALL], self._discovery.routes)

    async def healthz(self, _request: Request) -> Response:
        return Json({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        tables = self._feed.tables()
        if tables is None:
            return Json({"status": "no tables yet"}, 503)
        endpoints = sum(len(pool) for pool in tables.pools.values())
        return Json(
            {"status": "ready", "stale": self._feed.stale, "services": len(tables.pools), "endpoints": endpoints}
        )

    async def _answer(
        self,
        request: Request,
        question: _Question,
        kind: str,
        about: Sequence[str],
        find: Callable[[Tables], envoy.Said],
    ) -> Response:
        self._note_refusal(kind, question)
        assert self._bells is not None
        loop = asyncio.get_running_loop()
        until = loop.time() + _patience_s(request) * _HOLD_SHARE
        while True:
            with self._bells.listening(about) as rung:
                tables = self._feed.tables()
                if tables is not None:
                    found = find(tables)
                    if found.version != question.version:
                        return Json(envoy.discovery_response(kind, found))
                remaining = until - loop.time()
                if remaining <= 0 or self._bells.closed:
                    break
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(rung.wait(), remaining)
        self._require_tables()
        return Response(status_code=304)

    def _require_tables(self) -> Tables:
        tables = self._feed.tables()
        if tables is None:
            raise HTTPException(503, "no tables yet")
        return tables

    def _note_refusal(self, kind: str, question: _Question) -> None:
        if question.error and question.error not in self._refused:
            if len(self._refused) > 1_000:
                self._refused.clear()
            self._refused.add(question.error)
            _log.warning("Envoy %s refuses %s of %s: %s", question.node, kind, question.names[:5], question.error)


def make_application(feed: Feed, rules: Rules, more: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the application; `state.release` answers every held question. `more` are routes of the process's own."""
    edge = Edge(feed, rules)
    app = Starlette(
        routes=[
            Route("/traefik", edge.traefik),
            Route("/v3/discovery:endpoints", edge.endpoints, methods=["POST"]),
            Route("/v3/discovery:clusters", edge.clusters, methods=["POST"]),
            Route("/v3/discovery:routes", edge.routes, methods=["POST"]),
            Route("/healthz", edge.healthz),
            Route("/readyz", edge.readyz),
            *more,
        ],
        exception_handlers={HTTPException: _refuse},
        lifespan=edge.lifespan,
    )
    app.state.release = edge.release
    app.router.redirect_slashes = False
    return app


class _Question:
    """A DiscoveryRequest, as far as it is answered."""

    def __init__(self, document: Any) -> None:
        names = document.get("resource_names", [])
        if not isinstance(names, list) or len(names) > MAX_NAMES or not all(isinstance(name, str) for name in names):
            raise HTTPException(400, "resource_names is a list of names")
        self.names: list[str] = names
        self.version = _short(document.get("version_info"))
        node, error = document.get("node"), document.get("error_detail")
        self.node = _short(node.get("id")) if isinstance(node, dict) else ""
        self.error = _short(error.get("message")) if isinstance(error, dict) else ""


async def _question(request: Request) -> _Question:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"more than {MAX_BODY} bytes")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HTTPException(400, "not JSON") from None
    if not isinstance(document, dict):
        raise HTTPException(400, "not a DiscoveryRequest")
    return _Question(document)


def _service(name: str) -> ServiceKey | None:
    with contextlib.suppress(ValueError):
        return ServiceKey.parse(name)
    return None


def _patience_s(request: Request) -> float:
    told = request.headers.get(_HOLD_HEADER, "")
    return min(int(told) / 1_000, _LONGEST_HOLD_S / _HOLD_SHARE) if told.isdecimal() and len(told) < 12 else 0.0


def _short(value: Any) -> str:
    return value[:500] if isinstance(value, str) else ""


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"status": "error", "reason": error.detail}, error.status_code, error.headers)
