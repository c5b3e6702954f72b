"""The way to the Kubernetes API for processes that act there: by a kubeconfig, or by the account of their pod."""

from __future__ import annotations

from pathlib import Path

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from waypost.errors import SettingsError


def api_client(kubeconfig: Path | None) -> ApiClient:
    """Return a client of the cluster that a kubeconfig names; without one, of that in which this process runs.

    It repeats no request: whoever acts decides that. Raises SettingsError when neither says where the cluster is.
    """
    settings = Configuration()
    try:
        if kubeconfig is not None:
            config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        where = str(kubeconfig) if kubeconfig is not None else "the pod's service account"
        raise SettingsError(f"no way to the Kubernetes API by {where}: {error}") from error
    settings.retries = urllib3.Retry(0, redirect=0)
    return ApiClient(settings)
