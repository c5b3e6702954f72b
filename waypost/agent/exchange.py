"""Requests to the agent read, and answers written: whatever is wrong is JSON with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from waypost.agent.lookups import TooManyServices
from waypost.agent.member import MAX_BYTES, Who
from waypost.agent.roster import TooMany, UnknownMember
from waypost.client.failover import CallFailed
from waypost.client.registry.instance import checked_id, checked_service
from waypost.errors import DecodeError, InvalidInstance, RegistryUnavailable, UnknownService

LONGEST_WAIT_S = 60.0

STATUS: dict[type[Exception], int] = {
    DecodeError: 400,
    InvalidInstance: 400,
    UnknownMember: 404,
    UnknownService: 404,
    CallFailed: 503,
    RegistryUnavailable: 503,
    TooMany: 507,
    TooManyServices: 503,
}


def who_of(request: Request) -> Who:
    """Return whom the path names. Raises InvalidName."""
    return Who(checked_service(request.path_params["service"]), checked_id(request.path_params["instance"]))


D = TypeVar("D", timedelta, None)


def seconds(request: Request, name: str, default: D) -> timedelta | D:
    """Return a time that the query says. Raises HTTPException 400."""
    said = request.query_params.get(name)
    if said is None:
        return default
    try:
        found = float(said)
    except ValueError:
        found = -1.0
    if not 0 <= found <= LONGEST_WAIT_S:
        raise HTTPException(400, f"{name} is in seconds, from 0 to {LONGEST_WAIT_S:g}")
    return timedelta(seconds=found)


async def body_of(request: Request) -> bytes:
    """Return the body. Raises HTTPException 413."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the sender went away") from None
    return body


async def refuse(_request: Request, error: Exception) -> Response:
    """Answer an HTTPException."""
    assert isinstance(error, HTTPException)
    return answer({"status": "error", "reason": error.detail}, error.status_code, error.headers)


async def explain(_request: Request, error: Exception) -> Response:
    """Answer one of the errors in STATUS."""
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return answer({"status": "error", "reason": str(error)}, status)


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer JSON."""
    return Response(orjson.dumps(content), status, headers, "application/json")
