"""EndpointSlices as instances, on objects as a 1.34 API server sends them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from waypost.client.registry.instance import Instance
from waypost.client.registry.kubernetes.slices import (
    PortChoice,
    decode_slice,
    decode_slices,
    instances_of,
)
from waypost.errors import DecodeError, InvalidPort
from waypost.model.lifecycle import Status

ANY = PortChoice()
WEB: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "addressType": "IPv4",
    "metadata": {
        "name": "web-x7k2p",
        "generateName": "web-",
        "namespace": "shop",
        "uid": "5d0b3f0e-8f0a-4c3e-9d25-1d2f6f6a6f10",
        "resourceVersion": "4711",
        "generation": 5,
        "creationTimestamp": "2026-11-22T10:00:00Z",
        "labels": {
            "app": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": "web",
        },
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "0c0c"}],
    },
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    "endpoints": [
        {
            "addresses": ["10.64.0.5"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
            "targetRef": {"kind": "Pod", "name": "web-6d4f-2xk9p", "namespace": "shop", "uid": "aa"},
            "zone": "a",
        },
    ],
}


def web(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(WEB), **fields}


def an_endpoint(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(WEB["endpoints"][0]), **fields}


def instances(*docs: dict[str, Any], choice: PortChoice = ANY) -> dict[str, Instance]:
    return instances_of("web", [decode_slice(doc) for doc in docs], choice)


def test_a_pod_is_an_instance_with_its_zone_and_node() -> None:
    assert instances(WEB) == {
        "web-6d4f-2xk9p": Instance(
            id="web-6d4f-2xk9p", name="web", address="10.64.0.5", port=8080, zone="a", metadata={"node": "node-1"}
        )
    }


def test_what_is_no_pod_is_called_by_its_address() -> None:
    external = {"addresses": ["203.0.113.9"]}
    assert list(instances(web(endpoints=[external]))) == ["203.0.113.9:8080"]
    six = web(addressType="IPv6", endpoints=[{"addresses": ["2001:DB8::1"]}])
    assert [each.address for each in instances(six).values()] == ["2001:db8::1"]
    name = web(addressType="FQDN", endpoints=[{"addresses": ["db.example.org"]}])
    assert [each.address for each in instances(name).values()] == ["db.example.org"]


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"ready": True, "serving": True, "terminating": False}, Status.UP),
        ({"ready": False, "serving": False, "terminating": False}, Status.DOWN),
        ({"ready": False, "serving": True, "terminating": True}, Status.DRAINING),
        ({"ready": False, "serving": False, "terminating": True}, Status.DOWN),
        # publishNotReadyAddresses says ready of everybody; who is about to go still wants no new requests.
        ({"ready": True, "serving": True, "terminating": True}, Status.DRAINING),
        ({}, Status.UP),
        (None, Status.UP),
        ({"ready": None, "serving": None, "terminating": None}, Status.UP),
        ({"ready": False}, Status.DOWN),
        ({"ready": True, "terminating": True}, Status.DRAINING),
    ],
)
def test_conditions_are_a_status(conditions: Any, status: Status) -> None:
    (found,) = instances(web(endpoints=[an_endpoint(conditions=conditions)])).values()
    assert found.status is status


def test_of_several_ports_one_has_to_be_said() -> None:
    ports = [
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "metrics", "port": 9090, "protocol": "TCP"},
        {"name": "gossip", "port": 7946, "protocol": "UDP"},
    ]
    several = web(ports=ports)

    with pytest.raises(InvalidPort, match=r"http, metrics.*\?port=NAME"):
        instances(several)
    for name, number in (("http", 8080), ("metrics", 9090), ("gossip", 7946)):
        (found,) = instances(several, choice=PortChoice(name=name)).values()
        assert found.port == number
    with pytest.raises(InvalidPort, match="gossip, http, metrics"):
        instances(several, choice=PortChoice(name="grpc"))
    (found,) = instances(several, choice=PortChoice(number=1234)).values()
    assert found.port == 1234
    # Of one TCP port beside others of UDP there is no doubt.
    (found,) = instances(web(ports=ports[1:])).values()
    assert found.port == 9090


def test_a_name_that_counts_only_where_there_are_several() -> None:
    choice = PortChoice(name="http", if_several=True)
    (found,) = instances(web(ports=[{"name": "grpc", "port": 50051}]), choice=choice).values()
    assert found.port == 50051
    with pytest.raises(InvalidPort):
        instances(web(ports=[{"name": "grpc", "port": 50051}]), choice=PortChoice(name="http"))


@pytest.mark.parametrize("ports", [None, [], [{"name": "", "port": None, "protocol": "TCP"}]])
def test_a_headless_service_without_ports_needs_a_number(ports: Any) -> None:
    with pytest.raises(InvalidPort, match="8080"):
        instances(web(ports=ports))
    assert [each.port for each in instances(web(ports=ports), choice=PortChoice(number=80)).values()] == [80]


@pytest.mark.parametrize("endpoints", [None, []])
def test_a_service_that_selects_nobody_has_no_instances_and_no_doubt_about_ports(endpoints: Any) -> None:
    assert instances(web(ports=None, endpoints=endpoints)) == {}


def test_a_named_port_may_be_another_one_for_each_pod() -> None:
    other = web(
        metadata={**WEB["metadata"], "name": "web-9"},
        ports=[{"name": "http", "port": 9999, "protocol": "TCP"}],
        endpoints=[an_endpoint(addresses=["10.64.0.6"], targetRef={"kind": "Pod", "name": "other"})],
    )
    assert {each.port for each in instances(WEB, other).values()} == {8080, 9999}


def test_a_pod_in_two_slices_is_one_instance_whatever_their_order() -> None:
    moved = web(metadata={**WEB["metadata"], "name": "a-newer"}, endpoints=[an_endpoint(conditions={"ready": False})])
    six = web(
        metadata={**WEB["metadata"], "name": "a-six"},
        addressType="IPv6",
        endpoints=[an_endpoint(addresses=["2001:db8::5"])],
    )
    for docs in ([WEB, moved, six], [six, moved, WEB]):
        (found,) = instances(*docs).values()
        assert (found.address, found.status) == ("10.64.0.5", Status.UP)


def test_what_cannot_be_called_is_left_out_alone() -> None:
    spoiled = [an_endpoint(addresses=["not a host"]), an_endpoint(targetRef={"kind": "Pod", "name": "a/b"})]
    found = instances(web(endpoints=[*spoiled, *WEB["endpoints"]]))
    assert list(found) == ["web-6d4f-2xk9p"]


@pytest.mark.parametrize(
    "doc",
    [
        None, [], {}, {"metadata": {}}, web(metadata=None), web(metadata={"name": "x"}), web(addressType=4),
        web(ports={}), web(ports=["http"]), web(ports=[{"port": "http"}]), web(endpoints=["10.0.0.1"]),
        web(endpoints=[{}]), web(endpoints=[{"addresses": []}]), web(endpoints=[{"addresses": [1]}]),
        web(endpoints=[an_endpoint(conditions={"ready": "yes"})]), web(endpoints=[an_endpoint(zone="a\nb")]),
    ],
)  # fmt: skip
def test_what_is_no_slice_is_a_decode_error_and_takes_no_other_with_it(doc: Any) -> None:
    with pytest.raises(DecodeError):
        decode_slice(doc)
    assert list(decode_slices([doc, WEB])) == ["web-x7k2p"]
