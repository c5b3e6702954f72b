"""The provider: `python -m microservices.provider`."""

from __future__ import annotations

import os
import socket

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from microservices import VERSION
from microservices.application import HEALTH, Drain, Json, health, make_application
from microservices.environment import ServiceSettings, provider_settings
from microservices.serving import exit_with, serve
from waypost.errors import SettingsError
from waypost.logs import configure as configure_logs


def make_provider(settings: ServiceSettings, host: str, port: int, drain: Drain) -> Starlette:
    """Return the provider as it answers from `host` and `port`."""

    async def info(_request: Request) -> Json:
        name = settings.service.service
        return Json({"service_name": name, "host": host, "port": str(port), "version": VERSION})

    async def data(_request: Request) -> Json:
        return Json({"message": "Hello from provider service", "source": host})

    async def healthy(_request: Request) -> Json:
        return health(drain)

    return make_application([Route("/info", info), Route("/data", data), Route(HEALTH, healthy)], drain)


def main() -> None:
    try:
        settings = provider_settings(os.environ)
        configure_logs(settings.log_level, settings.names())
        serve(settings, lambda port, drain: make_provider(settings, socket.gethostname(), port, drain))
    except SettingsError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
