"""Who gets a request: the agent, or the proxy; and which handler of the agent."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from waypost.agent.application import Api
from waypost.agent.exchange import STATUS, answer, explain, refuse
from waypost.agent.proxy import proxied


class _ByHost:
    """Sends requests for `*.waypost` to the proxy, all others to the agent."""

    def __init__(self, api: ASGIApp, proxy: ASGIApp | None) -> None:
        self._api = api
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if proxied(scope) is None:
            await self._api(scope, receive, send)
        elif self._proxy is None:
            refusal = answer(
                {"status": "error", "reason": "this agent was given no Redis, so it knows no services"}, 501
            )
            await refusal(scope, receive, send)
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
    app = Starlette(routes=routes(api), exception_handlers={HTTPException: refuse, **dict.fromkeys(STATUS, explain)})
    app.router.redirect_slashes = False
    return _ByHost(app, proxy)


def proxy_only(proxy: ASGIApp) -> ASGIApp:
    """Return the application for a port that others than the owner of the socket may reach: it takes no orders."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = answer({"status": "error", "reason": "this port is a proxy for http://<service>.waypost/"}, 421)
            await refusal(scope, receive, send)

    return _ByHost(nothing, proxy)
