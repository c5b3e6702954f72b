"""The local proxy: `http://<service>.waypost/…` goes to an instance of the service, and to another when that fails.

    curl --unix-socket /var/run/service.sock http://payments.waypost/orders/7
    http_proxy=http://127.0.0.1:8792 curl http://payments.waypost/orders/7

What is repeated with another instance, within the retry budget of `waypost.client.failover`:

    the connection could not be made                    any request: nobody has seen it
    it broke, or no answer began in time                GET, HEAD, OPTIONS, TRACE, PUT, DELETE whose body is small
                                                        enough to be kept; RFC 9110 calls these idempotent

Everything else is the caller's to repeat: 502, with a line for each attempt. An answer that has begun is passed on as
it comes; when it breaks, so does what the caller reads. Not for upgrades (WebSockets), trailers or TLS.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from waypost.agent.lookups import Lookups, TooManyServices
from waypost.client.failover import CallFailed
from waypost.client.registry.instance import Instance
from waypost.errors import InvalidInstance
from waypost.wire.addresses import join_endpoint

_log = logging.getLogger(__name__)

SUFFIX = ".waypost"
MAX_KEPT = 64 * 1024
"""A body up to this size can be sent again. A larger one goes through as it comes."""

CONNECT_S, ANSWER_S = 2.0, 60.0
CONNECTIONS = 256
_TIMEOUT = httpx.Timeout(ANSWER_S, connect=CONNECT_S, pool=CONNECT_S)

_HOP = frozenset(
    b"connection expect keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade".split()
)
"""What is between two neighbours and not passed on (RFC 9110, 7.6.1); an expectation is met by reading the body."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class Unanswered(Exception):
    """A try that may be repeated."""


REPEATS = (Unanswered,)


class Proxy:
    """See the module; an ASGI application for requests whose host ends with `.waypost`."""

    def __init__(self, lookups: Lookups, count: Callable[[str], None]) -> None:
        self._lookups = lookups
        self._count = count
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=64, keepalive_expiry=30.0),
            trust_env=False,
            follow_redirects=False,
            verify=False,  # only http:// is ever called, and the authorities would be read for nothing
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            self._count("gone")
            return
        await answer(scope, receive, send)

    async def close(self) -> None:
        await self._http.aclose()

    async def _answer(self, request: Request) -> Response:
        if "upgrade" in request.headers:
            return self._refusal(501, "refused", "upgrades are not passed on: look the service up and call it yourself")
        service = proxied(request.scope) or ""
        try:
            body, is_kept = await _body(request)
            try:
                begun = await self._lookups.call(service, lambda to: self._try(request, to, body, is_kept))
            finally:
                await body.aclose()
        except InvalidInstance as error:
            return self._refusal(400, "refused", str(error))
        except TooManyServices as error:
            return self._refusal(503, "refused", str(error))
        except CallFailed as error:
            status = 502 if error.attempts else 503
            return self._refusal(status, "failed", str(error))
        except httpx.TimeoutException as error:
            return self._refusal(504, "failed", f"{type(error).__name__}: {error}")
        except httpx.HTTPError as error:
            return self._refusal(502, "failed", f"{type(error).__name__}: {error}")
        self._count("answered")
        answer = StreamingResponse(_passed_on(begun), begun.status_code)
        answer.raw_headers = _passing(begun.headers.raw)
        return answer

    async def _try(self, request: Request, to: Instance, body: _Body, is_kept: bool) -> httpx.Response:
        url = httpx.URL(f"http://{join_endpoint(to.address, to.port)}", raw_path=_target(request.scope))
        headers = [*_passing(request.scope["headers"]), (b"via", b"1.1 waypost-agent")]
        # Not the client's `build_request`: it would add headers of its own, such as what encodings it understands.
        sent = httpx.Request(
            request.method, url, headers=headers, content=body.content(), extensions={"timeout": _TIMEOUT.as_dict()}
        )
        try:
            return await self._http.send(sent, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from error
        except httpx.TransportError as error:
            if is_kept and request.method in _IDEMPOTENT:
                raise Unanswered(f"{type(error).__name__}: {error}") from error
            raise

    def _refusal(self, status: int, outcome: str, why: str) -> Response:
        self._count(outcome)
        return JSONResponse({"status": "error", "reason": why}, status, {"X-Waypost-Agent": outcome})


class _Body:
    """The body of a request: kept, or passed on as it comes, once."""

    def __init__(self, begin: bytes, rest: AsyncIterator[bytes] | None) -> None:
        self._begin = begin
        self._rest = rest

    def content(self) -> bytes | AsyncIterator[bytes] | None:
        if self._rest is None:
            return self._begin or None
        return self._whole()

    async def _whole(self) -> AsyncIterator[bytes]:
        assert self._rest is not None
        yield self._begin
        async for part in self._rest:
            yield part

    async def aclose(self) -> None:
        if self._rest is not None and hasattr(self._rest, "aclose"):
            await self._rest.aclose()


def proxied(scope: Scope) -> str | None:
    """Return the service a request is for; None when it is for the agent itself.

    A client that takes us for its proxy writes the whole URL into the request line; its host counts, as RFC 9112 says.
    """
    if scope["type"] != "http":
        return None
    target = scope["raw_path"].decode("latin-1")
    if target[:7].lower() == "http://":
        host = target[7:].partition("/")[0]
    else:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    name = host.rpartition(":")[0] if ":" in host else host
    name = name.lower().rstrip(".")
    return name[: -len(SUFFIX)] if name.endswith(SUFFIX) else None


def _target(scope: Scope) -> bytes:
    path: bytes = scope["raw_path"]
    if path[:7].lower() == b"http://":
        path = b"/" + path[7:].partition(b"/")[2]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def _passing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers that go on to the next."""
    named = {
        name.strip().lower() for key, value in headers if key.lower() == b"connection" for name in value.split(b",")
    }
    return [(key, value) for key, value in headers if key.lower() not in _HOP | named]


async def _body(request: Request) -> tuple[_Body, bool]:
    """Read the beginning of a body; return it, and whether that was all."""
    stream = request.stream()
    begin = b""
    async for part in stream:
        begin += part
        if len(begin) > MAX_KEPT:
            return _Body(begin, stream), False
    return _Body(begin, None), True


async def _passed_on(begun: httpx.Response) -> AsyncIterator[bytes]:
    async with aclosing(begun):
        async for part in begun.aiter_raw():
            yield part
