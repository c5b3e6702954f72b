"""An instance registers where others can call it, without sending anything to find out."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from microservices import addresses
from microservices.addresses import listen, own_address
from waypost.errors import SettingsError


def test_it_is_the_interface_that_leads_to_kafka() -> None:
    assert own_address("127.0.0.1:9092") == "127.0.0.1"
    assert own_address("localhost:9092") == "127.0.0.1"


@pytest.mark.parametrize("resolves", [{"kafka": "127.0.0.1"}, {"kafka-2": "127.0.0.1"}, {"192.0.2.1": "127.0.0.1"}])
def test_a_name_that_does_not_resolve_is_passed_over(resolves: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolver(resolves))

    assert own_address("kafka:9092,kafka-2:9092") == "127.0.0.1"


def test_no_way_at_all_asks_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolver({}))

    with pytest.raises(SettingsError, match=r"kafka:9092.*ADVERTISE_ADDRESS"):
        own_address("kafka:9092")


def test_it_listens_on_every_interface_of_the_family_it_advertises() -> None:
    with listen("10.1.2.3", 0) as listener:
        assert listener.family == socket.AF_INET
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=30):
            pass


def test_a_taken_port_is_told() -> None:
    with listen(None, 0) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(SettingsError, match=rf"PORT {port}: Address already in use$"):
            listen(None, port)


def resolver(known: dict[str, str]) -> Callable[..., list[object]]:
    real = socket.getaddrinfo

    def resolve(host: str, port: int, **options: int) -> list[object]:
        if host not in known:
            raise socket.gaierror("not known")
        return list(real(known[host], port, **options))

    return resolve
