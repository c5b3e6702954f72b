"""One call of a provider: an endpoint picked from the table by weight, and another one when the first fails.

The table is looked up anew for each try, so a failover already sees a change that came during the first try. Calls are
GETs and change nothing, hence repeating one is safe. A try fails by no connection, no answer in time, or an answer
that is not 200 with JSON: an address may have been given to somebody else since its instance died.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import structlog

from waypost.client.copies import TableView
from waypost.client.pick import pick
from waypost.wire.addresses import join_endpoint
from waypost.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request may cost. Times are in seconds."""

    tries: int = 3
    connect: float = 1.0
    call: float = 2.0
    total: float = 5.0
    """Less than three calls that hang: the third gets what is left, and the caller an answer before it gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a provider answered, and which one."""

    data: Any
    by: str
    tries: int


class NobodyServed(Exception):
    """No endpoint answered; the message is the reason for a person."""

    def __init__(self, reason: str, tries: int) -> None:
        super().__init__(reason)
        self.tries = tries


class Failover:
    """Calls endpoints of a table until one serves."""

    def __init__(
        self,
        table: Callable[[], TableView],
        client: httpx.AsyncClient,
        *,
        limits: Limits | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._table = table
        self._client = client
        self._limits = limits or Limits()
        self._chance = chance or random.Random()
        self._log = structlog.stdlib.get_logger()

    async def get(self, path: str) -> Served:
        """Return the first answer. Raises NobodyServed, after `limits.total` at the latest."""
        failed: dict[str, str] = {}
        ends = time.monotonic() + self._limits.total
        while len(failed) < self._limits.tries and time.monotonic() < ends:
            endpoints = self._table().endpoints
            instance = pick(endpoints, self._chance, without=failed.keys())
            if instance is None:
                break
            seconds = min(self._limits.call, ends - time.monotonic())
            try:
                data = await self._call(endpoints[instance], path, seconds)
            except _TryFailed as failure:
                failed[instance] = str(failure)
                self._log.warning("try-failed", endpoint=instance, number=len(failed), reason=str(failure))
            else:
                return Served(data=data, by=instance, tries=len(failed) + 1)
        raise NobodyServed(self._reason(failed), len(failed))

    async def _call(self, endpoint: Endpoint, path: str, seconds: float) -> Any:
        url = f"http://{join_endpoint(endpoint.address, endpoint.port)}{path}"
        connect = min(self._limits.connect, seconds)
        try:
            # httpx's limits are per read; this one is for the whole call, however slowly bytes drip in.
            async with asyncio.timeout(seconds):
                response = await self._client.get(url, timeout=httpx.Timeout(seconds, connect=connect))
        except httpx.ConnectTimeout:
            raise _TryFailed(f"no connection within {connect:g} s") from None
        except httpx.ConnectError:
            raise _TryFailed("cannot connect") from None
        except (TimeoutError, httpx.TimeoutException):
            raise _TryFailed(f"no answer within {seconds:.3g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _TryFailed(f"connection lost ({type(error).__name__})") from error
        if response.status_code != 200:
            raise _TryFailed(f"status {response.status_code}")
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise _TryFailed("answered something that is not JSON") from None

    def _reason(self, failed: dict[str, str]) -> str:
        table = self._table()
        if failed:
            reason = "; ".join(f"{instance}: {why}" for instance, why in failed.items())
            tried = f"all {len(failed)} tried endpoints" if len(failed) > 1 else "the only tried endpoint"
            text = f"{tried} of {table.service} failed: {reason}"
        else:
            text = f"no endpoint in the table of {table.service}"
        return f"{text} (Redis does not confirm the table)" if table.stale else text


class _TryFailed(Exception):
    """One call of one endpoint failed; the message is a short reason."""
