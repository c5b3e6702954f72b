"""Free TCP ports on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


def free_ports(wanted: Iterable[int | None]) -> list[int]:
    """Return one free port per entry: the wanted one where it is free, otherwise any.

    Wanting the ports of the last run keeps addresses in other terminals valid. Between this call and
    the server's bind somebody else may take a port; then the part dies and `up` reports it.
    """
    held: list[socket.socket] = []
    try:
        for port in wanted:
            held.append(_bind(port or 0))
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


def _bind(port: int) -> socket.socket:
    s = socket.socket()
    # As the servers do, so that connections of the last run in TIME_WAIT do not count as taken.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((LOOPBACK, port))
    except OSError:
        s.bind((LOOPBACK, 0))
    return s
