"""Which cluster, namespace and port a URL means, and with whose credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.slices import write_kubeconfig
from waypost.client.registry.kubernetes import connection
from waypost.client.registry.kubernetes.address import KubernetesAddress, read_kubernetes
from waypost.client.registry.kubernetes.connection import connect
from waypost.client.registry.kubernetes.slices import PortChoice
from waypost.errors import SettingsError

SERVER = "http://127.0.0.1:6443"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("kubernetes:", KubernetesAddress()),
        ("kubernetes:shop", KubernetesAddress(namespace="shop")),
        ("kubernetes://minikube", KubernetesAddress(context="minikube")),
        ("kubernetes://minikube/", KubernetesAddress(context="minikube")),
        ("kubernetes://minikube/shop", KubernetesAddress(context="minikube", namespace="shop")),
        ("kubernetes://me@there:6443/shop", KubernetesAddress(context="me@there:6443", namespace="shop")),
        ("kubernetes://arn:aws:cluster/c/shop", KubernetesAddress(context="arn:aws:cluster/c", namespace="shop")),
        ("kubernetes://a%3Fb/shop", KubernetesAddress(context="a?b", namespace="shop")),
        ("kubernetes:shop?port=http", KubernetesAddress(namespace="shop", port=PortChoice(name="http"))),
        ("kubernetes:shop?port=80", KubernetesAddress(namespace="shop", port=PortChoice(number=80))),
        ("kubernetes:?kubeconfig=/a/b", KubernetesAddress(kubeconfig=Path("/a/b"))),
    ],
)  # fmt: skip
def test_urls_that_are_understood(url: str, address: KubernetesAddress) -> None:
    assert read_kubernetes(url) == address


@pytest.mark.parametrize(
    "url",
    ["kubernetes", "kubernetes:Shop", "kubernetes:a/b", "kubernetes:a.b", "kubernetes:///shop",
     "kubernetes:shop?ports=http", "kubernetes:shop?port=0", "kubernetes:shop?port=65536", "kubernetes:shop?port",
     "k8s:shop"],
)  # fmt: skip
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(SettingsError):
        read_kubernetes(url)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    return write_kubeconfig(tmp_path / "config", SERVER)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "namespace"),
    [
        ("kubernetes:", "shop"),
        ("kubernetes:pay", "pay"),
        ("kubernetes://a/b:c/", "default"),
        ("kubernetes://a/b:c/pay", "pay"),
    ],
)
def test_the_namespace_is_that_of_the_url_else_of_the_context(
    url: str, namespace: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    client, found = connect(read_kubernetes(url))
    assert (client.configuration.host, found) == (SERVER, namespace)


def test_a_pod_uses_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kubeconfig: Path) -> None:
    from kubernetes.config import incluster_config

    for name, constant, text in (
        ("token", "SERVICE_TOKEN_FILENAME", "secret"),
        ("ca.crt", "SERVICE_CERT_FILENAME", "a certificate"),
    ):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(incluster_config, constant, str(tmp_path / name))
    (tmp_path / "namespace").write_text("pods-own")
    monkeypatch.setattr(connection, "POD_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    client, namespace = connect(read_kubernetes("kubernetes:"))
    assert (client.configuration.host, namespace) == ("https://10.0.0.1:443", "pods-own")
    _, namespace = connect(read_kubernetes("kubernetes:pay"))
    assert namespace == "pay"
    # A kubeconfig that is said, or a context of one, is not the pod's.
    client, _ = connect(read_kubernetes(f"kubernetes:?kubeconfig={kubeconfig}"))
    assert client.configuration.host == SERVER
    with pytest.raises(SettingsError):
        connect(read_kubernetes("kubernetes://minikube/"))


@pytest.mark.parametrize("url", ["kubernetes:", "kubernetes:?kubeconfig=/nowhere", "kubernetes://unknown/shop"])
def test_no_way_in_is_said_with_what_to_do(url: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "unknown" in url:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(SettingsError, match="KUBECONFIG"):
        connect(read_kubernetes(url))


def test_a_kubeconfig_that_is_none_is_a_settings_error(tmp_path: Path) -> None:
    for text in ("{", "[]", "a: b", "", "\0"):
        (tmp_path / "config").write_text(text)
        with pytest.raises(SettingsError):
            connect(KubernetesAddress(kubeconfig=tmp_path / "config"))
