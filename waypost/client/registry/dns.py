"""Services from DNS: headless Services of Kubernetes, SRV records, plain A and AAAA, names that are aliases.

    SRV        all targets of the lowest priority, their ports and weights (RFC 2782)
    A, AAAA    one instance per address; DNS does not know the port, so it has to be given
    CNAME      followed, also where the answer has nothing but the alias (ExternalName)

An instance's id is `address:port`. Answers are kept for their TTL, and asked for again when it ends; negative ones for
what the zone's SOA says. A server that does not answer, or with SERVFAIL, leaves what was last known in place; one that
says that the name does not exist is believed.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from waypost.client.registry.instance import Instance, checked
from waypost.client.registry.polled import PolledDiscoverer
from waypost.errors import InvalidInstance, InvalidPort, NotSupported, RegistryUnavailable
from waypost.model.events import DEFAULT_WEIGHT

TIMEOUT = timedelta(seconds=3)
SOONEST, LATEST = timedelta(milliseconds=500), timedelta(hours=1)
"""Bounds of a TTL: 0 would make a watch ask without a pause, a week would outlive every deployment."""

ALIASES = 8
"""How many aliases in a row are followed; more is a loop or a joke."""


class DnsDiscoverer(PolledDiscoverer):
    """See the module.

    `server` is host and port of the DNS server, None for those of this machine's resolv.conf. `domain` is appended to
    the service's name (`default.svc.cluster.local`), `prefix` is put before it for SRV (`_http._tcp`). `port` is where
    instances of A and AAAA records listen.
    """

    def __init__(
        self,
        server: tuple[str, int] | None = None,
        *,
        domain: str = "",
        prefix: str = "",
        port: int | None = None,
        timeout: timedelta = TIMEOUT,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        super().__init__(now_ms)
        self._resolver = dns.resolver.Resolver(configure=server is None)
        if server is not None:
            self._resolver.nameservers = [_address(server[0])]
            self._resolver.port = server[1]
        self._resolver.lifetime = timeout.total_seconds()
        self._resolver.cache = dns.resolver.LRUCache()
        self._domain, self._prefix, self._port = domain.strip("."), prefix.strip("."), port
        self.where = f"DNS at {server[0]}:{server[1]}" if server is not None else "DNS"

    @property
    def retry(self) -> timedelta:
        return timedelta(seconds=1)

    def ask(self, service: str) -> tuple[Mapping[str, Instance] | None, timedelta]:
        name = ".".join(part for part in (service, self._domain) if part)
        expiry = _Expiry()
        targets = self._targets(".".join(part for part in (self._prefix, name) if part), expiry)
        if targets:
            found = [
                self._instance(service, address, port, weight, {"target": target})
                for target, port, weight in targets
                for address in self._addresses(target, expiry)
            ]
            return {instance.id: instance for instance in found}, expiry.pause()
        addresses = self._addresses(name, expiry)
        if not addresses:
            return None, expiry.pause()
        if self._port is None:
            raise InvalidPort(
                "port-missing",
                f"{name} has addresses and no SRV record: say where they listen, as in dns://…?port=8080",
            )
        instances = [self._instance(service, address, self._port, DEFAULT_WEIGHT, {}) for address in addresses]
        return {instance.id: instance for instance in instances}, expiry.pause()

    def list_services(self) -> tuple[str, ...]:
        raise NotSupported("DNS keeps no list of services: ask for one by name, or ask the registry behind it")

    def _targets(self, name: str, expiry: _Expiry) -> list[tuple[str, int, int]]:
        """Return (target, port, weight) of the SRV records of the lowest priority."""
        records = self._resolve(name, "SRV", expiry)
        if not records:
            return []
        first = min(record.priority for record in records)
        chosen = [record for record in records if record.priority == first and record.target != dns.name.root]
        said = any(record.weight for record in chosen)
        return [
            (str(record.target).rstrip("."), record.port, record.weight if said else DEFAULT_WEIGHT)
            for record in chosen
        ]

    def _addresses(self, name: str, expiry: _Expiry) -> list[str]:
        found = [*self._resolve(name, "A", expiry), *self._resolve(name, "AAAA", expiry)]
        return sorted({str(record.address) for record in found})

    def _resolve(self, name: str, kind: str, expiry: _Expiry) -> list[Any]:
        asked = dns.name.from_text(name)
        for _ in range(ALIASES):
            try:
                answer = self._resolver.resolve(asked, kind, raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN as error:
                expiry.note_negative(error)
                return []
            except (dns.exception.DNSException, OSError, ValueError) as error:
                raise RegistryUnavailable(f"{self.where} did not answer {kind} of {asked}: {error}") from error
            expiry.note(answer.expiration)
            if answer.rrset is not None:
                return list(answer.rrset)
            if answer.canonical_name == asked:
                return []
            asked = answer.canonical_name
        raise RegistryUnavailable(f"{self.where}: {name} is an alias of an alias, {ALIASES} times and more")

    def _instance(self, service: str, address: str, port: int, weight: int, metadata: dict[str, str]) -> Instance:
        try:
            return checked(
                Instance(
                    id=f"{address}:{port}", name=service, address=address, port=port, weight=weight, metadata=metadata
                )
            )
        except InvalidInstance as error:
            raise RegistryUnavailable(f"{self.where} has {address}:{port} for {service}: {error}") from error


class _Expiry:
    """When the first of several answers ends."""

    def __init__(self) -> None:
        self._at = time.time() + LATEST.total_seconds()

    def note(self, expiration: float) -> None:
        self._at = min(self._at, expiration)

    def note_negative(self, error: dns.resolver.NXDOMAIN) -> None:
        """RFC 2308: the lower of the SOA's TTL and its minimum."""
        ttl = 5.0
        for response in _responses(error):
            for rrset in response.authority:
                if rrset.rdtype == dns.rdatatype.SOA:
                    ttl = min(rrset.ttl, rrset[0].minimum)
        self.note(time.time() + ttl)

    def pause(self) -> timedelta:
        return min(LATEST, max(SOONEST, timedelta(seconds=self._at - time.time())))


def _responses(error: dns.resolver.NXDOMAIN) -> Iterable[Any]:
    return error.responses().values()  # type: ignore[no-any-return,no-untyped-call]


def _address(host: str) -> str:
    """Return the IP address of the server: a resolver cannot look up its own name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        try:
            return str(dns.resolver.resolve(host, "A")[0])
        except (dns.exception.DNSException, OSError) as error:
            raise RegistryUnavailable(f"the DNS server's own name {host!r} has no address: {error}") from error
