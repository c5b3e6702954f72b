"""The route job for development: a pod with a Flink of its own, to which `flink run` submits.

Three containers of one image, by the commands of docker-compose.yml: JobManager, TaskManager, and `waypost run-job`,
which submits and resubmits. A container that dies is restarted and the job resumes from its newest checkpoint. With the
pod go the checkpoints: the next one folds the log anew. There is no standby and no savepoint; that is the operator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waypost.controller.discovery import Discovery
from waypost.controller.flink import ACCOUNT, ZIP, pod_template

_STATE = "/var/lib/flink"
_ALIVE = "/tmp/alive"


def flink_run_spec(discovery: Discovery, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the spec of the Deployment; its pod is ready while every task of the job runs. `labels` select the pod."""
    settings = [part for key, value in discovery.settings.items() for part in ("--set", f"{key}={value}")]
    submit = [
        *("waypost", "run-job", "--flink", "http://localhost:8081", "--job-zip", ZIP),
        *("--checkpoints", f"{_STATE}/checkpoints", "--alive-file", _ALIVE, *settings),
    ]
    properties = flink_properties(discovery)
    containers = [
        _container("jobmanager", image, ["jobmanager"], properties, memory="1100Mi")
        | {"livenessProbe": _probe(["127.0.0.1", "8081", "/overview"], after_s=60)},
        _container("taskmanager", image, ["taskmanager"], properties, memory="1800Mi"),
        _container("submit", image, submit, properties, memory="512Mi")
        | {"readinessProbe": _probe(["--file", _ALIVE, "10"], after_s=20)},
    ]
    # For `flink run`: a JVM that is needed once wants to be up soon, not fast for long.
    containers[-1]["env"].append({"name": "JVM_ARGS", "value": "-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"})
    pod = {
        "serviceAccountName": ACCOUNT,
        # This Flink asks nothing of the API server.
        "automountServiceAccountToken": False,
        "securityContext": pod_template()["spec"]["securityContext"],
        "containers": containers,
        "volumes": [
            *({"name": f"tmp-{one['name']}", "emptyDir": {"sizeLimit": "1Gi"}} for one in containers),
            {"name": "state", "emptyDir": {"sizeLimit": "2Gi"}},
        ],
    }
    return {
        "replicas": 0 if discovery.suspended else 1,
        "selector": {"matchLabels": dict(labels)},
        # Never two: both would write the tables.
        "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
    }


def flink_properties(discovery: Discovery) -> str:
    """Return what this Flink is told beyond the image's own configuration: that all of it is in one pod."""
    properties = {
        "jobmanager.rpc.address": "localhost",
        "rest.address": "localhost",
        "taskmanager.numberOfTaskSlots": str(discovery.parallelism),
        # Two processes, one address.
        "metrics.reporter.prom.port": "9249-9250",
    }
    return "\n".join(f"{key}: {value}" for key, value in properties.items())


def _container(name: str, image: str, arguments: list[str], properties: str, *, memory: str) -> dict[str, Any]:
    [flink] = pod_template()["spec"]["containers"]
    return {
        "name": name,
        "image": image,
        "args": arguments,
        "envFrom": flink["envFrom"],
        "env": [{"name": "FLINK_PROPERTIES", "value": properties}],
        "resources": {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}},
        "securityContext": flink["securityContext"],
        "volumeMounts": [{"name": f"tmp-{name}", "mountPath": "/tmp"}, {"name": "state", "mountPath": _STATE}],
    }


def _probe(arguments: list[str], *, after_s: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["healthy", *arguments]},
        "initialDelaySeconds": after_s,
        "periodSeconds": 5,
        "timeoutSeconds": 4,
        "failureThreshold": 4,
    }
