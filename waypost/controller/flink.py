"""The route job as a FlinkDeployment of the Flink Kubernetes Operator, in application mode.

Fields are those of the operator's reference of its custom resources (flink.apache.org/v1beta1); `v2_3` is known from
operator 1.16 on.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from waypost.controller.discovery import Discovery
from waypost.flink.settings import job_settings, parse_settings

STATE_CLAIM = "waypost-flink-state"
"""PersistentVolumeClaim that all pods of all jobs mount at /var/lib/flink."""
ACCOUNT = "waypost-flink"

_FILE = "flink_configuration.yaml"
ZIP = "/opt/waypost/waypost-job.zip"
_PYTHON = "/opt/venv/bin/python3"
_USER = 10001


def configuration(name: str) -> dict[str, str]:
    """Return what Flink is told for the deployment of this name."""
    data = pkgutil.get_data("waypost.controller", _FILE)
    assert data is not None, f"{_FILE} is packed beside this module"
    added = parse_settings(data.decode(), _FILE)
    return {**job_settings(), **{key: value.replace("DEPLOYMENT_NAME", name) for key, value in added.items()}}


def deployment_spec(discovery: Discovery, name: str, image: str) -> dict[str, Any]:
    """Return the spec of the FlinkDeployment that runs the route job of this discovery."""
    arguments = [part for key, value in discovery.settings.items() for part in ("--set", f"{key}={value}")]
    settings = configuration(name)
    if discovery.standby:
        settings["slotmanager.redundant-taskmanager-num"] = str(discovery.standby)
    return {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "flinkVersion": "v2_3",
        "mode": "native",
        "serviceAccount": ACCOUNT,
        "flinkConfiguration": settings,
        "podTemplate": pod_template(),
        # One leads, one stands by: without it a lost node is a new pod, image and JVM away.
        "jobManager": {"replicas": 2, "resource": {"cpu": 0.5, "memory": "832m"}},
        "taskManager": {"resource": {"cpu": 1, "memory": "1536m"}},
        "job": {
            # No jarURI: PythonDriver is in lib/, once per JVM, as thread mode needs it.
            "entryClass": "org.apache.flink.client.python.PythonDriver",
            "args": ["-pyclientexec", _PYTHON, "-pym", "jobs.route_table", "-pyfs", ZIP, *arguments],
            "parallelism": discovery.parallelism,
            "state": "suspended" if discovery.suspended else "running",
            "upgradeMode": "savepoint",
            "allowNonRestoredState": False,
        },
    }


def pod_template() -> dict[str, Any]:
    """Return what all pods of the job have in common; Flink adds the rest."""
    container = {
        "name": "flink-main-container",
        "envFrom": [
            {"configMapRef": {"name": "waypost-connection"}},
            {"secretRef": {"name": "waypost-connection", "optional": True}},
        ],
        "env": [
            # The configuration that the operator mounts, not the image's own.
            {"name": "FLINK_CONF_DIR", "value": "/opt/flink/conf"},
            {"name": "PATH", "value": "/opt/flink/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"},
        ],
        "ports": [{"name": "metrics", "containerPort": 9249, "protocol": "TCP"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "state", "mountPath": "/var/lib/flink"}],
    }
    return {
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "state", "persistentVolumeClaim": {"claimName": STATE_CLAIM}},
            ],
        }
    }
