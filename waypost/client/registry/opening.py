"""Registries by URL, for configuration files and command lines.

    etcd://HOST:PORT[,HOST:PORT…][?layout=waypost|kitex][&prefix=PATH]
    etcds://…[?ca=FILE][&cert=FILE&key=FILE]                       the same over TLS
    dns://HOST:PORT[?domain=NAME][&port=N][&prefix=_http._tcp]     dns: asks the servers of resolv.conf
    kubernetes:[//CONTEXT/][NAMESPACE][?port=NAME|N]               EndpointSlices; by kubeconfig, or as this pod
    env:                                                           environment variables
    file:PATH                                                      YAML or JSON
    memory:                                                        in this process, for tests

Waypost itself needs two addresses, so it has none: `WaypostRegistry` takes Kafka's and Redis's.
The libraries of etcd, DNS and Kubernetes are only imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from waypost.client.registry.environment import EnvironmentVariables
from waypost.client.registry.interface import Discoverer, ServiceRegistry
from waypost.client.registry.memory import MemoryRegistry
from waypost.client.registry.static_file import StaticFile
from waypost.client.registry.urls import read_url
from waypost.errors import NotSupported, SettingsError

FORMS = (
    "etcd://HOST:PORT[?layout=kitex], etcds://… with TLS, dns://HOST:PORT[?domain=NAME&port=N], "
    "kubernetes:[//CONTEXT/]NAMESPACE[?port=NAME], env:, file:PATH"
)


def open_discoverer(url: str) -> Discoverer:
    """Return the back end of a URL; it connects when it is asked. Raises SettingsError."""
    scheme, colon, rest = url.partition(":")
    opener = _OPENERS.get(scheme) if colon else None
    if opener is None:
        raise SettingsError(f"{url!r} names no registry; one of {FORMS}")
    return opener(url, rest)


def open_registry(url: str, *, lease: timedelta | None = None) -> ServiceRegistry:
    """Return the back end of a URL, for writing. Raises SettingsError, and NotSupported for one that is read only."""
    if url.startswith(("etcd:", "etcds:")):
        return _etcd(url, lease)
    found = open_discoverer(url)
    if isinstance(found, ServiceRegistry):
        return found
    found.close()
    raise NotSupported(f"{url.partition(':')[0]}: can only be read; etcd and waypost take registrations")


def _etcd(url: str, lease: timedelta | None = None) -> ServiceRegistry:
    try:
        from waypost.client.registry.etcd.address import read_etcd
        from waypost.client.registry.etcd.registry import LEASE, EtcdRegistry
    except ImportError as error:
        raise _missing("etcd", error) from error
    where = read_etcd(url)
    return EtcdRegistry(*where.urls, tls=where.tls, layout=where.layout, lease=lease or LEASE)


def _dns(url: str, _rest: str) -> Discoverer:
    try:
        from waypost.client.registry.dns import DnsDiscoverer
    except ImportError as error:
        raise _missing("dns", error) from error
    host, server_port, options = read_url(url, {"domain", "prefix", "port"})
    port = options.get("port")
    if port is not None and not (port.isdecimal() and 1 <= int(port) <= 65_535):
        raise SettingsError(f"{url!r}: port is a number from 1 to 65535")
    return DnsDiscoverer(
        None if host is None else (host, server_port or 53),
        domain=options.get("domain", ""),
        prefix=options.get("prefix", ""),
        port=None if port is None else int(port),
    )


def _kubernetes(url: str, _rest: str) -> Discoverer:
    try:
        from waypost.client.registry.kubernetes.address import read_kubernetes
        from waypost.client.registry.kubernetes.discoverer import KubernetesDiscoverer
        from waypost.client.registry.kubernetes.slice_api import SliceApi
    except ImportError as error:
        raise _missing("kubernetes", error) from error
    where = read_kubernetes(url)
    return KubernetesDiscoverer(SliceApi.at(where), port=where.port)


def _file(url: str, rest: str) -> Discoverer:
    if not rest:
        raise SettingsError(f"{url!r}: say which file, as in file:services.yaml")
    return StaticFile(rest.removeprefix("//"))


_OPENERS: dict[str, Callable[[str, str], Discoverer]] = {
    "etcd": lambda url, _rest: _etcd(url),
    "etcds": lambda url, _rest: _etcd(url),
    "dns": _dns,
    "kubernetes": _kubernetes,
    "env": lambda _url, _rest: EnvironmentVariables(),
    "file": _file,
    "memory": lambda _url, _rest: MemoryRegistry(),
}


def _missing(extra: str, error: ImportError) -> SettingsError:
    return SettingsError(f"{extra}: needs a library that is not installed: pip install 'waypost[{extra}]' ({error})")
