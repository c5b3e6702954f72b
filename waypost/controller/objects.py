"""What has to be in the cluster because of a `KafkaServiceDiscovery`, as plain data.

The route job (a FlinkDeployment, or for development a pod with a Flink of its own), the witness, and the mirror if
there is something to mirror. The object owns them: Kubernetes deletes them with it. k8s/base has the first two for who
runs no controller; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from waypost.controller.discovery import GROUP, KIND, VERSION, Discovery
from waypost.controller.drift import marked
from waypost.controller.flink import deployment_spec
from waypost.controller.flink_run import flink_run_spec

OWNER_LABEL = "waypost.io/discovery"
"""Which `KafkaServiceDiscovery` an object is there for: the controller watches what has it."""
CONNECTION = "waypost-connection"
"""ConfigMap, and a Secret if there is one, that say where Kafka and Redis are."""

_USER = 10001


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Which images are run."""

    waypost: str
    flink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of objects: where the API server has it."""

    api_version: str
    kind: str
    plural: str

    @property
    def root(self) -> str:
        """Where the API server lists the kinds of this version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str, name: str = "") -> str:
        return f"{self.root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


DISCOVERIES = Kind(api_version=f"{GROUP}/{VERSION}", kind=KIND, plural="kafkaservicediscoveries")
FLINK_DEPLOYMENTS = Kind(api_version="flink.apache.org/v1beta1", kind="FlinkDeployment", plural="flinkdeployments")
DEPLOYMENTS = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One object there has to be, or, without a body, must not be."""

    part: str
    """job, witness or mirror."""
    kind: Kind
    name: str
    body: Mapping[str, Any] | None


def parts(discovery: Discovery, images: Images) -> tuple[Part, ...]:
    """Return everything there has to be, and what must not be there (any more)."""
    return tuple(_parts(discovery, images))


def _parts(discovery: Discovery, images: Images) -> Iterator[Part]:
    name = f"{discovery.name}-route-table"
    if discovery.by_flink_run:
        yield _part(
            discovery, "job", DEPLOYMENTS, name, flink_run_spec(discovery, images.flink, _selected(discovery, "job"))
        )
    else:
        yield _part(discovery, "job", FLINK_DEPLOYMENTS, name, deployment_spec(discovery, name, images.flink))

    arguments = ["witness", "--topic", discovery.topics.heartbeat, "--shards", str(discovery.lease.shards)]
    alive = ["--alive-file", "/tmp/alive"]
    witness = _deployment(
        discovery,
        "witness",
        images.waypost,
        [*arguments, *alive],
        replicas=2,
        probe={
            "exec": {"command": ["healthy", "--file", "/tmp/alive", "10"]},
            "initialDelaySeconds": 20,
            "periodSeconds": 5,
            "timeoutSeconds": 3,
            "failureThreshold": 6,
        },
        requests={"cpu": "50m", "memory": "64Mi"},
        limits={"memory": "128Mi"},
    )
    yield _part(discovery, "witness", DEPLOYMENTS, f"{discovery.name}-witness", witness)

    mirror = None
    if not discovery.mirrored.nothing:
        mirror = _deployment(
            discovery,
            "mirror",
            images.waypost,
            _mirror_arguments(discovery),
            replicas=1,
            probe=None,
            requests={"cpu": "50m", "memory": "96Mi"},
            limits={"memory": "256Mi"},
        )
    yield _part(discovery, "mirror", DEPLOYMENTS, f"{discovery.name}-mirror", mirror)


def _mirror_arguments(discovery: Discovery) -> list[str]:
    """Return the command of the client's mirror, which alone writes what Services say."""
    chosen = discovery.mirrored
    where = [part for namespace in chosen.namespaces for part in ("--from", f"kubernetes:{namespace}")]
    labels = ",".join(f"{key}={value}" for key, value in chosen.labels)
    return [
        "mirror",
        "kubernetes",
        *where,
        "--topic",
        discovery.topics.registry,
        "--prefix",
        discovery.redis_prefix,
        *(["--selector", labels] if labels else []),
    ]


def _part(discovery: Discovery, part: str, kind: Kind, name: str, spec: Mapping[str, Any] | None) -> Part:
    if spec is None:
        return Part(part=part, kind=kind, name=name, body=None)
    metadata = {
        "name": name,
        "namespace": discovery.namespace,
        "labels": {**_labels(f"waypost-{part}"), OWNER_LABEL: discovery.name},
        "ownerReferences": [
            {
                "apiVersion": DISCOVERIES.api_version,
                "kind": DISCOVERIES.kind,
                "name": discovery.name,
                "uid": discovery.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
    return Part(part=part, kind=kind, name=name, body=marked(body))


def _selected(discovery: Discovery, part: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": f"waypost-{part}", OWNER_LABEL: discovery.name}


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "waypost"}


def _deployment(
    discovery: Discovery,
    part: str,
    image: str,
    arguments: list[str],
    *,
    replicas: int,
    probe: Mapping[str, Any] | None,
    requests: Mapping[str, str],
    limits: Mapping[str, str],
) -> dict[str, Any]:
    selected = _selected(discovery, part)
    container = {
        "name": part,
        "image": image,
        "args": arguments,
        "envFrom": [
            {"configMapRef": {"name": CONNECTION}},
            {"secretRef": {"name": CONNECTION, "optional": True}},
        ],
        "env": [
            {"name": "WAYPOST_METRICS_HOST", "value": "0.0.0.0"},
            {"name": "WAYPOST_METRICS_PORT", "value": "9100"},
        ],
        "ports": [{"name": "metrics", "containerPort": 9100}],
        **({"livenessProbe": probe} if probe else {}),
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "serviceAccountName": f"waypost-{part}",
        # The witness asks nothing of the API server.
        "automountServiceAccountToken": part == "mirror",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selected},
            }
        ],
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    return {
        "replicas": replicas,
        "selector": {"matchLabels": selected},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": {**_labels(f"waypost-{part}"), **selected}}, "spec": pod},
    }
