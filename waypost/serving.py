"""What our HTTP servers have in common: where they listen, and who ends them.

For processes that serve: it needs uvicorn, which the extra `gateway` brings.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator

import uvicorn

from waypost.errors import SettingsError

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]*)):([0-9]{1,5})\Z")


class Server(uvicorn.Server):
    """uvicorn without its own idea of signals: it would not exit with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def read_listen(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[IPV6]:PORT`. Raises SettingsError."""
    match = _LISTEN.match(text)
    if match is None or int(match[3]) > 65_535:
        raise SettingsError(f"{text!r} is not HOST:PORT")
    return match[1] or match[2] or "127.0.0.1", int(match[3])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises SettingsError when the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SettingsError(f"cannot listen on {host}:{port}: {why}") from error
