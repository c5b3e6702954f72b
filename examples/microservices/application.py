"""What both services speak over HTTP: JSON for answers and errors, an access log, and a drain that callers notice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = "/health"


@dataclass(slots=True)
class Drain:
    """Whether the drain has begun: set by who runs the service, read by who answers."""

    begun: bool = False


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Lifespan(Protocol):
    """What is opened before the first request and closed after the last."""

    def __call__(self, app: Starlette, /) -> AbstractAsyncContextManager[None]: ...


def make_application(routes: Sequence[BaseRoute], drain: Drain, lifespan: Lifespan | None = None) -> Starlette:
    """Return an application with these routes and the manners of the module."""
    application = Starlette(
        routes=routes,
        middleware=[Middleware(Manners, drain=drain)],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
        lifespan=lifespan,
    )
    application.router.redirect_slashes = False  # `/info/` is not there, and says so
    return application


def health(drain: Drain, details: Mapping[str, Any] | None = None) -> Json:
    """Return the answer of /health.

    200 while it serves, whatever became of Kafka or Redis: restarting us would mend neither. 503 from the drain on, so
    that balancers which look here turn away as well; requests that still come are served.
    """
    if drain.begun:
        return Json({"status": "draining"}, 503)
    return Json({"status": "healthy", **(details or {})})


class Manners:
    """Logs every request, and asks callers to hang up while draining: a connection kept alive would be cut later."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain
        self._log = structlog.stdlib.get_logger("access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._drain.begun:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            tell = self._log.debug if scope["path"] == HEALTH else self._log.info
            tell(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1_000, 2),
                client=scope["client"][0] if scope.get("client") else "",
            )


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"status": "error", "reason": error.detail}, error.status_code, error.headers)


async def _fail(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again when this is sent, and uvicorn logs it with its traceback.
    return Json({"status": "error", "reason": "Internal Server Error"}, 500)
