"""k8s/ says what the code says: the same job, the same defaults, the same settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.controller.discoveries import a_discovery
from waypost.cli import main
from waypost.controller.durations import milliseconds
from waypost.controller.flink import configuration, deployment_spec
from waypost.controller.flink_run import flink_properties
from waypost.controller.objects import DEPLOYMENTS, Images, parts
from waypost.flink.settings import job_settings, parse_settings
from waypost.settings import Brake, Kafka, Leases, Redis, Topics, Windows
from waypost.topics import PARTITIONS

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "k8s" / "base"


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((BASE / path).read_text()))


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """The properties of a KafkaServiceDiscovery's spec."""
    [definition] = documents("crd/kafkaservicediscoveries.yaml")
    [version] = definition["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


def test_the_route_job_is_the_one_that_the_controller_makes() -> None:
    [manifest] = documents("route-job/flink-deployment.yaml")
    name = manifest["metadata"]["name"]

    assert manifest["spec"] == deployment_spec(a_discovery("waypost"), name, "waypost-flink:0.1.0")


def test_the_repair_job_is_configured_like_it() -> None:
    [manifest] = documents("repair-job/flink-deployment.yaml")
    expected = configuration("waypost-repair")

    assert manifest["spec"]["flinkConfiguration"] == expected
    assert manifest["spec"]["podTemplate"] == deployment_spec(a_discovery(), "x", "y")["podTemplate"]
    assert "jobs.repair" in manifest["spec"]["job"]["args"]


def test_every_job_has_what_jobs_need_of_any_cluster() -> None:
    assert job_settings().items() <= configuration("any").items()


def test_each_job_has_directories_of_its_own() -> None:
    one, other = configuration("one"), configuration("other")

    differing = {key for key in one if one[key] != other[key]}
    assert differing == {
        "execution.checkpointing.dir",
        "execution.checkpointing.savepoint-dir",
        "high-availability.storageDir",
    }


def test_modules_are_opened_as_in_the_wheels_own_configuration() -> None:
    pyflink = pytest.importorskip("pyflink")
    own = yaml.safe_load((Path(pyflink.__path__[0]) / "conf" / "config.yaml").read_text())

    assert configuration("any")["env.java.opts.all"].split() == own["env"]["java"]["opts"]["all"].split()


def test_the_witness_is_the_one_that_the_controller_makes() -> None:
    [manifest] = documents("witness/witness.yaml")
    images = Images(waypost="waypost:0.1.0", flink="any")
    [made] = [part.body for part in parts(a_discovery("waypost"), images) if part.part == "witness"]
    assert made

    container, other = (body["spec"]["template"]["spec"]["containers"][0] for body in (manifest, made))
    assert {**container, "args": []} == {**other, "args": []}
    assert container["args"] == ["witness", "--alive-file", "/tmp/alive"]


def test_the_definitions_defaults_are_the_settings_own(spec: dict[str, Any]) -> None:
    lease, brake = spec["lease"]["properties"], spec["brake"]["properties"]

    assert spec["heartbeatTopic"]["default"] == Topics().heartbeat
    assert spec["isolationTopic"]["default"] == Topics().isolation
    assert spec["routeChangesTopic"]["default"] == Topics().route_changes
    assert spec["deadLetterTopic"]["default"] == Topics().dead_letter
    assert spec["redisPrefix"]["default"] == Redis().prefix
    assert spec["topics"]["properties"]["partitions"]["default"] == PARTITIONS
    assert milliseconds(spec["windowSize"]["default"]) == Windows().size_ms
    assert lease["shards"]["default"] == Leases().shards
    assert milliseconds(lease["tick"]["default"]) == Leases().tick_ms
    assert milliseconds(lease["batchGrace"]["default"]) == Leases().batch_grace_ms
    for field, setting in (("Percent", "percent"), ("Min", "min")):
        for who in ("service", "fleet"):
            assert brake[f"{who}{field}"]["default"] == getattr(Brake(), f"{who}_{setting}")
    assert milliseconds(brake["serviceWindow"]["default"]) == Brake().service_ms
    assert milliseconds(brake["fleetWindow"]["default"]) == Brake().fleet_ms
    assert milliseconds(brake["hold"]["default"]) == Brake().hold_ms
    assert brake["enabled"]["default"] is Brake().enabled


def test_the_installation_that_is_shipped_is_valid() -> None:
    [body] = documents("discovery/discovery.yaml")

    discovery = a_discovery("waypost", **body["spec"])

    assert discovery.group_id == Kafka().group_id
    assert discovery.window.size_ms == 300_000


def test_the_commands_of_what_the_controller_makes_exist_with_their_options() -> None:
    discovery = a_discovery(
        namespaceSelector={"matchNames": ["shop", "pay"]}, serviceSelector={"matchLabels": {"app": "web", "tier": "a"}}
    )

    seen = set()
    for part in parts(discovery, Images(waypost="w", flink="f")):
        if part.kind is DEPLOYMENTS:
            assert part.body
            arguments = part.body["spec"]["template"]["spec"]["containers"][0]["args"]
            command: click.Command = main
            while isinstance(command, click.Group):
                command, arguments = command.commands[arguments[0]], arguments[1:]
            values = command.make_context(part.part, list(arguments)).params
            seen.add(part.part)
            if part.part == "mirror":
                assert values["urls"] == ("kubernetes:pay", "kubernetes:shop")
                assert values["selector"] == "app=web,tier=a"
                assert (values["topic"], values["prefix"]) == ("service-registry", "waypost:v1:")
    assert seen == {"witness", "mirror"}


def test_a_flink_for_development_is_run_by_the_commands_of_the_compose_file() -> None:
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    discovery = a_discovery(job={"target": "flink-run", "parallelism": 2})
    [job] = [part for part in parts(discovery, Images(waypost="w", flink="f")) if part.part == "job"]
    assert job.body
    containers = {one["name"]: one for one in job.body["spec"]["template"]["spec"]["containers"]}

    def words(command: list[str]) -> list[str]:
        """Return it without where Flink is and without settings."""
        told = {"--set", "--flink"}
        return [word for before, word in zip(["", *command], command, strict=False) if not {before, word} & told]

    assert containers["jobmanager"]["args"] == composed["jobmanager"]["command"]
    assert containers["taskmanager"]["args"] == composed["taskmanager"]["command"]
    assert words(containers["submit"]["args"]) == words(composed["route-job"]["command"])
    said = parse_settings(flink_properties(discovery), "FLINK_PROPERTIES")
    assert said["taskmanager.numberOfTaskSlots"] == "2"
    assert {word for word in containers["submit"]["args"] if "=" in word} == {
        f"{key}={value}" for key, value in discovery.settings.items()
    }


def test_the_demo_is_what_it_is_meant_to_be() -> None:
    for app, replicas, port in (("provider", 3, 8080), ("consumer", 2, 8081)):
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for body in documents(f"demo/{app}.yaml"):
            by_kind.setdefault(body["kind"], []).append(body["spec"])
        [deployment] = by_kind["Deployment"]
        [container] = deployment["template"]["spec"]["containers"]

        assert deployment["replicas"] == replicas
        assert container["resources"] == {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "200m", "memory": "256Mi"},
        }
        assert container["livenessProbe"] == {
            "httpGet": {"path": "/health", "port": "http"},
            "initialDelaySeconds": 5,
            "periodSeconds": 10,
            "timeoutSeconds": 2,
            "successThreshold": 1,
            "failureThreshold": 3,
        }
        ready = container["readinessProbe"]
        assert (ready["initialDelaySeconds"], ready["periodSeconds"]) == (3, 5)
        assert container["ports"][0]["containerPort"] == port
        assert deployment["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        kinds = {
            s.get("type") or ("headless" if s.get("clusterIP") == "None" else "ClusterIP") for s in by_kind["Service"]
        }
        assert kinds == {"ClusterIP", "NodePort", "headless"}
        [scaler] = by_kind["HorizontalPodAutoscaler"]
        assert scaler["minReplicas"] == replicas
    [ingress] = documents("demo/ingress.yaml")
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "microservice.local"
    assert [path["path"].partition("(")[0] for path in rule["http"]["paths"]] == ["/provider", "/consumer"]


def test_no_image_floats() -> None:
    for path in BASE.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            if line.strip().startswith("image: "):
                name, _, tag = line.split()[1].partition(":")
                assert tag not in ("", "latest"), f"{path.name}: {name}"


def test_nothing_is_granted_by_wildcard_or_to_read_secrets() -> None:
    for path in BASE.rglob("*.yaml"):
        for body in yaml.safe_load_all(path.read_text()):
            if body and body["kind"] in ("Role", "ClusterRole"):
                for rule in body["rules"]:
                    assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
                    assert "secrets" not in rule["resources"]
            if body and body["kind"] in ("RoleBinding", "ClusterRoleBinding"):
                assert body["roleRef"]["name"].startswith("waypost-"), "no role of the cluster's own"
