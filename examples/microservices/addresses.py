"""Where a service can be called: the address it tells the registry, and the socket it listens on."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from waypost.errors import DecodeError, SettingsError
from waypost.wire.addresses import canonical_address

_NOWHERE = "192.0.2.1"
"""TEST-NET-1, which nobody has: the way there leads out of the interface that leads to everybody else."""
_DISCARD = 9


def own_address(bootstrap: str) -> str:
    """Return the address of the interface by which Kafka is reached: who shares Kafka with us can call us there.

    A UDP socket is connected to find out; that sends nothing. While Kafka's name does not resolve yet, the interface
    of the default route is taken instead. Raises SettingsError when neither is to be had.
    """
    for host, port in (*_servers(bootstrap), (_NOWHERE, _DISCARD)):
        for address in _interfaces_towards(host, port):
            with contextlib.suppress(DecodeError):  # a zone or a wildcard: no address for others
                return canonical_address(address)
    raise SettingsError(f"no interface leads to Kafka at {bootstrap}; set ADVERTISE_ADDRESS to where others can call")


def listen(address: str | None, port: int) -> socket.socket:
    """Return a socket that listens on all interfaces, in the family of the advertised address. Raises SettingsError."""
    try:
        if address is not None and ":" in address:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
        return socket.create_server(("", port), backlog=256)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(f"cannot listen on PORT {port}: {why}") from error


def _servers(bootstrap: str) -> Iterator[tuple[str, int]]:
    for server in bootstrap.split(","):
        host, _, port = server.rpartition(":")
        yield host.strip("[]"), int(port)


def _interfaces_towards(host: str, port: int) -> Iterator[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return
    # IPv4 first: `localhost` is ::1 to many resolvers, while most servers there listen on 127.0.0.1 only.
    for family, kind, protocol, _, target in sorted(found, key=lambda info: info[0] != socket.AF_INET):
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            yield str(probe.getsockname()[0])
