"""EndpointSlices as instances. Pure: what the API server wrote in, instances out.

    id          the pod's name; address:port for an endpoint that is no pod
    status      UP when ready; DRAINING when terminating and still serving; DOWN otherwise. Of the conditions, `ready`
                and `serving` that are not said are true, `terminating` is false: so says the API.
    port        the only TCP port, or the one that is asked for by name
    zone        as said; metadata has `node`

An endpoint may be in two slices for a moment while Kubernetes moves it, and a pod with two addresses is in slices of
both families. It is one instance: IPv4 goes before IPv6, ready before not ready.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from waypost.client.registry.instance import Instance, checked
from waypost.errors import DecodeError, InvalidInstance, InvalidPort
from waypost.model.lifecycle import Status
from waypost.wire.fields import as_bool, as_int, as_list, as_object, as_text

_log = logging.getLogger(__name__)

SERVICE_LABEL = "kubernetes.io/service-name"
_FAMILIES = {"IPv4": 0, "IPv6": 1, "FQDN": 2}
_STATUSES = {Status.UP: 0, Status.DRAINING: 1, Status.DOWN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of a slice. Its name is "" where a Service has one only and has not named it."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint of a slice. `pod` is "" when it is none."""

    address: str
    status: Status
    pod: str
    zone: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What matters here of one EndpointSlice."""

    name: str
    service: str
    version: str
    family: str
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]
    made: dict[int, tuple[Instance, ...]] = field(default_factory=dict, repr=False, compare=False)
    """What `instances` returned, by port: of a thousand endpoints a change concerns one slice."""

    def instances(self, port: int) -> tuple[Instance, ...]:
        """Return the endpoints that can be called at all; others are logged, once."""
        if port not in self.made:
            found = (self._instance(endpoint, port) for endpoint in self.endpoints)
            self.made[port] = tuple(each for each in found if each is not None)
        return self.made[port]

    def _instance(self, endpoint: Endpoint, port: int) -> Instance | None:
        try:
            return checked(
                Instance(
                    id=endpoint.pod or f"{endpoint.address}:{port}",
                    name=self.service,
                    address=endpoint.address,
                    port=port,
                    status=endpoint.status,
                    zone=endpoint.zone,
                    metadata={"node": endpoint.node} if endpoint.node else {},
                )
            )
        except InvalidInstance as error:
            _log.warning("an endpoint in %s cannot be called and is left out: %s", self.name, error)
            return None

    def rank(self, instance: Instance) -> tuple[int, int, str]:
        """Return how an instance compares with one of the same id in another slice; the lowest counts."""
        return _FAMILIES.get(self.family, len(_FAMILIES)), _STATUSES[instance.status], self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PortChoice:
    """Which port of a Service: the one of a name, or a number whatever the slice says, or the only TCP port.

    `if_several`: the name counts only where there are several TCP ports, for somebody who reads many Services.
    """

    name: str = ""
    number: int | None = None
    if_several: bool = False

    def of(self, piece: Slice) -> int | None:
        """Return the port of a slice's endpoints; None: it has no such port. Raises InvalidPort when nobody has said
        which of several."""
        if self.number is not None:
            return self.number
        streams = [port for port in piece.ports if port.protocol == "TCP"]
        if len(streams) == 1 and (self.if_several or not self.name):
            return streams[0].number
        if self.name:
            return next((port.number for port in piece.ports if port.name == self.name), None)
        if streams:
            names = ", ".join(sorted(port.name for port in streams))
            raise InvalidPort(
                "port-ambiguous", f"{piece.service} has the ports {names}: say which one, as in ?port=NAME"
            )
        return None


ANY_PORT = PortChoice()


def decode_slice(doc: Any) -> Slice:
    """Read an EndpointSlice as the API server's JSON has it. Raises DecodeError."""
    body = as_object("an EndpointSlice", doc)
    metadata = as_object("metadata", body.get("metadata"))
    labels = as_object("labels", metadata.get("labels") or {})
    return Slice(
        name=as_text("name", metadata.get("name"), 253),
        service=as_text(SERVICE_LABEL, labels.get(SERVICE_LABEL, ""), 253),
        version=as_text("resourceVersion", metadata.get("resourceVersion"), 64),
        family=as_text("addressType", body.get("addressType"), 16),
        ports=tuple(_ports(body.get("ports"))),
        endpoints=tuple(_endpoints(body.get("endpoints"))),
    )


def decode_slices(found: Iterable[Any]) -> dict[str, Slice]:
    """Return name → slice; one that cannot be read is left out and logged."""
    slices = {}
    for doc in found:
        try:
            piece = decode_slice(doc)
        except DecodeError as error:
            _log.warning("an EndpointSlice cannot be read and is left out: %s", error)
            continue
        slices[piece.name] = piece
    return slices


def instances_of(service: str, slices: Iterable[Slice], choice: PortChoice) -> dict[str, Instance]:
    """Return the instances in all slices of a service. Raises InvalidPort when it cannot be told where they listen."""
    found: dict[str, tuple[tuple[int, int, str], Instance]] = {}
    without_port = None
    for piece in slices:
        if not piece.endpoints:
            continue
        port = choice.of(piece)
        if port is None:
            without_port = piece
            continue
        for instance in piece.instances(port):
            rank = piece.rank(instance)
            if instance.id not in found or rank < found[instance.id][0]:
                found[instance.id] = rank, instance
    if without_port is not None and not found:
        names = ", ".join(sorted(port.name for port in without_port.ports if port.name)) or "none"
        wanted = f"the port {choice.name!r}" if choice.name else "a TCP port"
        raise InvalidPort(
            "port-missing",
            f"{service} does not name {wanted}; it names {names}: say where it listens, as in ?port=8080",
        )
    return {id: instance for id, (_, instance) in sorted(found.items())}


def _ports(item: Any) -> Iterator[Port]:
    for each in as_list("ports", [] if item is None else item):
        port = as_object("a port", each)
        if port.get("port") is not None:
            yield Port(
                name=as_text("a port's name", port.get("name") or "", 63),
                number=as_int("port", port["port"]),
                protocol=as_text("protocol", port.get("protocol") or "TCP", 16),
            )


def _endpoints(item: Any) -> Iterator[Endpoint]:
    for each in as_list("endpoints", [] if item is None else item):
        yield _endpoint(as_object("an endpoint", each))


def _endpoint(doc: Mapping[str, Any]) -> Endpoint:
    addresses = as_list("addresses", doc.get("addresses"))
    if not addresses:
        raise DecodeError("addresses-missing", "an endpoint without an address")
    target = as_object("targetRef", doc.get("targetRef") or {})
    return Endpoint(
        # The API says of several that one is as good as another.
        address=as_text("an address", addresses[0], 253),
        status=_status(as_object("conditions", doc.get("conditions") or {})),
        pod=as_text("targetRef.name", target.get("name") or "", 253) if target.get("kind") == "Pod" else "",
        zone=as_text("zone", doc.get("zone") or "", 253),
        node=as_text("nodeName", doc.get("nodeName") or "", 253),
    )


def _status(conditions: Mapping[str, Any]) -> Status:
    def said(name: str, otherwise: bool) -> bool:
        item = conditions.get(name)
        return otherwise if item is None else as_bool(name, item)

    ready = said("ready", True)
    if said("terminating", False):
        return Status.DRAINING if said("serving", ready) else Status.DOWN
    return Status.UP if ready else Status.DOWN
