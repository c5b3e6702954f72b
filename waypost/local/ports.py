"""Free TCP ports on loopback."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
_QUIET = range(20_000, 32_768)
"""Below the ports that Linux and macOS hand out to outgoing connections. One of those may be given away, for as long as
that connection lasts, in the 20 s between our look and Kafka's bind."""
_TRIES = 50


def free_ports(wanted: Iterable[int | None]) -> list[int]:
    """Return one free port per entry: the wanted one where it is free, otherwise any.

    Wanting the ports of the last run keeps addresses in other terminals valid. Between this call and
    the server's bind somebody else may take a port; then the part dies and `up` reports it.
    """
    held: list[socket.socket] = []
    try:
        for port in wanted:
            held.append(_first_free([port] if port else []))
        return [int(s.getsockname()[1]) for s in held]
    finally:
        for s in held:
            s.close()


def is_listening(port: int, timeout: float = 0.5) -> bool:
    """Return whether something accepts connections on the loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout):
            return True
    except OSError:
        return False


def _first_free(wanted: Iterable[int]) -> socket.socket:
    for port in (*wanted, *random.sample(_QUIET, _TRIES)):
        with contextlib.suppress(OSError):
            return _bind(port)
    return _bind(0)


def _bind(port: int) -> socket.socket:
    s = socket.socket()
    # As the servers do, so that connections of the last run in TIME_WAIT do not count as taken.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((LOOPBACK, port))
    except OSError:
        s.close()
        raise
    return s
