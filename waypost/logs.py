"""Logs as JSON, one line per event on standard output, ours and those of every library alike.

Each line has `event`, `level`, `timestamp` (RFC 3339, UTC), what the process says of itself, then the facts. For
processes that serve: it needs structlog, which the extras `gateway` and `examples` bring.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_FIRST = ("event", "level", "timestamp")
_QUIET = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "kafka": logging.CRITICAL}
"""httpx tells of every request, the producer of every failed connection; what comes of it is told once by us."""


def configure(level: str, about: Mapping[str, str], out: TextIO | None = None) -> None:
    """Write everything from `level` up, with the facts `about` on every line. To be called once, in `main`."""
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(out or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _in_order(about),
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(at_least)


def _in_order(about: Mapping[str, str]) -> Processor:
    def put(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        first = {name: event.pop(name) for name in _FIRST if name in event}
        event.pop("color_message", None)  # uvicorn's second spelling of the same
        return {**first, **about, **event}

    return put


def _dumps(event: Any, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a surrogate pair, or an integer beyond 64 bits: rather escaped than lost
        return json.dumps(event, default=str)
