"""A service for a test: `/slow` answers once the file named by its argument is there."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from microservices.application import Drain, Json, make_application
from microservices.environment import provider_settings
from microservices.serving import serve
from waypost.logs import configure as configure_logs


def tell(event: str) -> None:
    structlog.stdlib.get_logger().info(event, at_ms=time.time_ns() // 1_000_000)


def make_app(_port: int, drain: Drain) -> Starlette:
    async def slow(_request: Request) -> Json:
        tell("slow-entered")
        while not Path(sys.argv[1]).exists():
            await asyncio.sleep(0.01)
        tell("slow-answered")
        return Json({"slow": True})

    return make_application([Route("/slow", slow)], drain)


if __name__ == "__main__":
    settings = provider_settings(os.environ)
    configure_logs(settings.log_level, settings.names())
    serve(settings, make_app)
