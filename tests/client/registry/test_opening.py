"""Registries by URL: which are understood, and what is said about the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.slices import write_kubeconfig
from waypost.client.registry.dns import DnsDiscoverer
from waypost.client.registry.environment import EnvironmentVariables
from waypost.client.registry.etcd.registry import EtcdRegistry
from waypost.client.registry.interface import Discoverer
from waypost.client.registry.kubernetes.discoverer import KubernetesDiscoverer
from waypost.client.registry.memory import MemoryRegistry
from waypost.client.registry.opening import open_discoverer, open_registry
from waypost.client.registry.static_file import StaticFile
from waypost.errors import NotSupported, SettingsError


@pytest.mark.parametrize(
    ("url", "kind", "where"),
    [
        ("etcd://127.0.0.1:2379", EtcdRegistry, "http://127.0.0.1:2379"),
        ("etcd://[::1]?layout=kitex", EtcdRegistry, "http://[::1]:2379"),
        ("etcd://db.internal?prefix=/shop/services", EtcdRegistry, "http://db.internal:2379"),
        ("etcd://a:1,b,[::1]:3", EtcdRegistry, "http://a:1, http://b:2379, http://[::1]:3"),
        ("etcds://a:1,b:2", EtcdRegistry, "https://a:1, https://b:2"),
        ("dns://127.0.0.1:53?domain=test&port=80&prefix=_http._tcp", DnsDiscoverer, "127.0.0.1:53"),
        ("env:", EnvironmentVariables, "environment"),
        ("file:services.yaml", StaticFile, "services.yaml"),
        ("file:///etc/services.yaml", StaticFile, "/etc/services.yaml"),
        ("memory:", MemoryRegistry, "in memory"),
    ],
)
def test_urls_that_are_understood(url: str, kind: type[Discoverer], where: str) -> None:
    with open_discoverer(url) as found:
        assert type(found) is kind
        assert where in getattr(found, "where", "in memory")


@pytest.mark.parametrize(
    "url",
    [
        "", "etcd", "etcd:", "etcd://", "etcd://h:x", "etcd://h:99999", "etcd://h?layout=nacos", "etcd://h?lay=kitex",
        "etcd://h/path", "etcd://h,", "etcd://h,i:x", "etcd://h?ca=/ca.pem", "etcds://h?cert=/c.pem",
        "etcds://h?ca=/nowhere/ca.pem", "kubernetes:?kubeconfig=/nowhere", "kubernetes:Shop", "kubernetes:shop?x=1",
        "dns://h:53?port=0", "dns://h:53?port=x", "dns://h?x", "file:", "consul://h", "redis://h",
    ],
)  # fmt: skip
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(SettingsError):
        open_discoverer(url)


def test_kubernetes_is_read_by_a_kubeconfig_and_only_read(tmp_path: Path) -> None:
    url = f"kubernetes:shop?kubeconfig={write_kubeconfig(tmp_path / 'config', 'http://127.0.0.1:1')}"
    with open_discoverer(url) as found:
        assert type(found) is KubernetesDiscoverer
        assert found.where == "Kubernetes at http://127.0.0.1:1, namespace shop"
    with pytest.raises(NotSupported, match="etcd and waypost"):
        open_registry(url)


@pytest.mark.parametrize("url", ["env:", "file:services.yaml", "dns://127.0.0.1"])
def test_what_can_only_be_read_says_so(url: str) -> None:
    with pytest.raises(NotSupported, match="etcd and waypost"):
        open_registry(url)


def test_what_can_be_written_is_a_registry(tmp_path: Path) -> None:
    with open_registry("etcd://127.0.0.1:1") as registry:
        assert isinstance(registry, EtcdRegistry)
