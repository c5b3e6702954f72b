"""Ports are free, differ, and are not the kind that outgoing connections take."""

from __future__ import annotations

import socket

from waypost.local.ports import LOOPBACK, free_ports


def test_ports_differ_and_are_not_handed_out_to_connections() -> None:
    ports = free_ports([None] * 6)

    assert len(set(ports)) == 6
    assert all(20_000 <= port < 32_768 for port in ports)


def test_the_wanted_port_is_kept_when_it_is_free() -> None:
    [port] = free_ports([None])

    assert free_ports([port, None])[0] == port


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert free_ports([port]) != [port]
