"""The Kubernetes API for a process: inside a cluster by its service account, elsewhere by a kubeconfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubernetes import client, config

from waypost.errors import SettingsError


def api_client(kubeconfig: Path | None) -> Any:
    """Return a client. Without a `kubeconfig`: the pod's service account if there is one, else the usual file.

    Raises SettingsError.
    """
    settings = client.Configuration()
    try:
        if kubeconfig is not None:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=settings
            )
        else:
            try:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            except config.ConfigException:
                config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise SettingsError(f"the Kubernetes API is not known here: {error}") from error
    # What repeats is ours to decide: the client would repeat connections three times by itself.
    settings.retries = 0
    return client.ApiClient(settings)
