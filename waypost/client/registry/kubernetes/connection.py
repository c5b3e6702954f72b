"""A client of the API server, with the credentials of a kubeconfig or of this pod."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from waypost.client.registry.kubernetes.address import KubernetesAddress
from waypost.errors import SettingsError
from waypost.model.names import is_namespace

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
WATCHES = 256
"""Connections that are kept; a watch has one for itself. More are possible and made anew each time."""


def connect(where: KubernetesAddress) -> tuple[client.ApiClient, str]:
    """Return a client and the namespace that is meant; nothing is asked yet. Raises SettingsError.

    As with kubectl, a kubeconfig that is there goes before the pod's own account.
    """
    settings = client.Configuration()
    try:
        files = _kubeconfig(where)
        if files is not None:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                files, context=where.context, client_configuration=settings, persist_config=False
            )
            namespace = where.namespace or _namespace_of(files, where.context)
        else:
            config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
            namespace = where.namespace or POD_NAMESPACE.read_text().strip()
    # The loader takes a kubeconfig's shape for granted.
    except (
        config.ConfigException,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        yaml.YAMLError,
    ) as error:
        raise SettingsError(
            f"no way to a Kubernetes API server: {error}. Set KUBECONFIG, or run it in a pod with a service account"
        ) from error
    if not is_namespace(namespace):
        raise SettingsError(f"{namespace!r} is no namespace, an RFC 1123 label")
    settings.retries = False  # whoever calls knows better when to ask again
    settings.connection_pool_maxsize = WATCHES
    # A watch is silent for a minute and more; a peer that is gone without a word is noticed within half of one.
    settings.socket_options = tcp_keepalive_socket_options(10, 5, 3)
    return client.ApiClient(settings), namespace


def _kubeconfig(where: KubernetesAddress) -> str | None:
    """Return the file or files, None for the pod's own account."""
    if where.kubeconfig is not None:
        return str(where.kubeconfig)
    said = os.environ.get("KUBECONFIG")
    if said:
        return said
    usual = Path("~/.kube/config").expanduser()
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and where.context is None
    return None if in_pod and not usual.exists() else str(usual)


def _namespace_of(files: str, context: str | None) -> str:
    contexts, current = config.list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
    found: dict[str, Any] = next((each for each in contexts if each["name"] == context), current)
    return str(found["context"].get("namespace") or "default")
