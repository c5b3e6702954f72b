"""The way to the Kubernetes API for processes that act there: by a kubeconfig, or by the account of their pod."""

from __future__ import annotations

import os
from pathlib import Path

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME

from waypost.errors import SettingsError


def api_client(kubeconfig: Path | None, *, usual_file: bool = False) -> ApiClient:
    """Return a client of the cluster that a kubeconfig names; without one, of that in which this process runs, or, for
    what people start by hand (`usual_file`), of that in $KUBECONFIG or ~/.kube/config.

    It repeats no request: whoever acts decides that. Raises SettingsError when neither says where the cluster is.
    """
    settings = Configuration()
    try:
        if kubeconfig is not None:
            config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        elif usual_file and SERVICE_HOST_ENV_NAME not in os.environ:
            config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        usual = "the pod's service account" + (" or the usual kubeconfig" if usual_file else "")
        where = str(kubeconfig) if kubeconfig is not None else usual
        raise SettingsError(f"no way to the Kubernetes API by {where}: {error}") from error
    settings.retries = urllib3.Retry(0, redirect=0)
    return ApiClient(settings)
