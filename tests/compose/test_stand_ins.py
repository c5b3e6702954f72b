"""What our Dockerfile and docker-compose.yml take for granted of their base images, whichever are in use.

The same laws for the public images and for the stand-ins: a stand-in that passes is as good for our purposes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.compose.engine import Engine
from tests.compose.images import PUBLIC
from waypost.local.kafka import broker_answers
from waypost.local.ports import free_ports

ROOT = Path(__file__).parents[2]
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"


class Running:
    """A container made for one test, removed after it with its volumes."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self.engine = engine
        self.id = identity

    def exec(self, *command: str) -> str:
        return self.engine.docker("exec", self.id, *command).strip()

    def logs(self) -> str:
        return self.engine.docker("logs", self.id)

    def state(self, field: str) -> str:
        return self.engine.docker("inspect", "--format", f"{{{{.State.{field}}}}}", self.id).strip()

    def port(self, inside: int) -> int:
        return int(self.engine.docker("port", self.id, f"{inside}/tcp").splitlines()[0].rpartition(":")[2])

    def wait_until(self, holds: Callable[[], bool], seconds: float = 180.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.state("Running") == "true", f"it ended: {self.logs()[-3000:]}"
            assert time.monotonic() < deadline, f"not in time: {self.logs()[-3000:]}"
            time.sleep(0.2)


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start(engine: Engine) -> Iterator[Start]:
    """Create a container from `docker create` arguments and start it; `prepared` copies files into it before."""
    created: list[str] = []

    def start(*arguments: str, prepared: dict[str, str] | None = None) -> Running:
        identity = engine.docker("create", *arguments).strip()
        created.append(identity)
        for source, target in (prepared or {}).items():
            engine.docker("cp", source, f"{identity}:{target}")
        engine.docker("start", identity)
        return Running(engine, identity)

    yield start
    if created:
        engine.docker("rm", "--force", "--volumes", *created)


def test_the_public_images_are_those_of_our_files() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    cluster = (ROOT / "docker-compose.yml").read_text()

    assert re.findall(r"^ARG PYTHON_IMAGE=(\S+)", dockerfile, re.MULTILINE) == [PUBLIC["PYTHON_IMAGE"]]
    for variable, default in re.findall(r"\$\{(\w+_IMAGE):-([^}]+)\}", cluster):
        if variable in PUBLIC:
            assert default == PUBLIC[variable], variable


# --- python -----------------------------------------------------------------------------------

LOOK_AT_PYTHON = """
import ctypes, json, os, subprocess, sys
ctypes.CDLL("libpython3.11.so.1.0")
subprocess.run([sys.executable, "-m", "venv", "/tmp/venv"], check=True)
venv = ["/tmp/venv/bin/python3", "-c", "import sys, pip; print(sys.prefix)"]
print(json.dumps({
    "user": os.getuid(),
    "version": sys.version_info[:2],
    "names": [os.access(f"/usr/local/bin/{name}", os.X_OK) for name in ("python", "python3", "python3.11", "pip")],
    "venv": subprocess.run(venv, check=True, capture_output=True, text=True).stdout.strip(),
}))
"""


def test_python_is_3_11_with_its_library_and_makes_virtual_environments(
    engine: Engine, base_images: dict[str, str]
) -> None:
    seen = json.loads(
        engine.docker(
            "run", "--rm", "--env", "PIP_NO_COMPILE=1", base_images["PYTHON_IMAGE"], "python3", "-c", LOOK_AT_PYTHON
        )
    )

    assert seen == {"user": 0, "version": [3, 11], "names": [True] * 4, "venv": "/tmp/venv"}


def test_builds_on_python_install_packages_and_java(
    engine: Engine, base_images: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base_images['PYTHON_IMAGE']}\n"
        "RUN pip install --no-cache-dir click && python3 -m venv /venv && /venv/bin/pip install --no-cache-dir click\n"
        "RUN mkdir -p /usr/share/man/man1 && apt-get update"
        " && apt-get install --yes --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*\n"
        "USER 10001:10001\n"
    )
    image = "waypost.invalid/test/build-on-python"

    engine.docker("build", "--network", "host", "--tag", image, str(tmp_path), timeout=900)

    assert "click" in engine.docker("run", "--rm", image, "/venv/bin/pip", "list")
    assert "17." in engine.docker("run", "--rm", image, "java", "--version")


# --- kafka ------------------------------------------------------------------------------------


def kafka_variables(port: int) -> list[str]:
    variables = {
        "CLUSTER_ID": CLUSTER,
        "KAFKA_NODE_ID": "7",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "7@localhost:9093",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_HEAP_OPTS": "-Xmx256m -Xms96m",
        "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC",
    }
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


@pytest.fixture(scope="module")
def kafka_image(base_images: dict[str, str]) -> str:
    return base_images["KAFKA_IMAGE"]


def test_kafka_is_configured_by_its_environment_and_keeps_its_data(kafka_image: str, start: Start) -> None:
    [port] = free_ports([None])
    broker = start(*kafka_variables(port), "--publish", f"127.0.0.1:{port}:{port}", kafka_image)
    broker.wait_until(lambda: broker_answers(f"127.0.0.1:{port}"))

    settings = broker.exec("cat", "/opt/kafka/config/server.properties").splitlines()
    assert "node.id=7" in settings
    assert "offsets.topic.replication.factor=1" in settings
    assert not [line for line in settings if "heap" in line or "jvm" in line]
    assert f"cluster.id={CLUSTER}" in broker.exec("cat", "/var/lib/kafka/data/meta.properties").splitlines()

    # The JVM is process 1 and took the options; nobody is root; there is a bash for health checks.
    arguments = broker.exec("bash", "-c", "tr '\\0' ' ' < /proc/1/cmdline").split()
    assert arguments[0].endswith("java")
    assert {"-Xmx256m", "-Xms96m", "-XX:+UseSerialGC", "kafka.Kafka"} <= set(arguments)
    assert broker.exec("bash", "-c", "id -u; id -un; stat -c %U /var/lib/kafka/data").split() == [
        "1000",
        "appuser",
        "appuser",
    ]

    # Asked to stop it does so by itself (143: the JVM after SIGTERM; 137 would be the engine's patience).
    broker.engine.docker("stop", "--time", "30", broker.id)
    assert broker.state("ExitCode") == "143"
    assert "shut down completed" in broker.logs()

    # Formatted storage is no error the second time.
    broker.engine.docker("start", broker.id)
    broker.wait_until(lambda: broker_answers(f"127.0.0.1:{port}"))


def test_kafka_refuses_storage_of_another_cluster(kafka_image: str, start: Start) -> None:
    [port] = free_ports([None])
    first = start(*kafka_variables(port), kafka_image)
    first.wait_until(lambda: "cluster.id" in _read(first, "/var/lib/kafka/data/meta.properties"))
    first.engine.docker("kill", first.id)

    other = start(
        "--volumes-from", first.id, *kafka_variables(port), "--env", "CLUSTER_ID=5L6g3nShT-eMCtK--X86sw", kafka_image
    )

    assert other.engine.docker("wait", other.id).strip() not in ("0", "137")


def _read(container: Running, path: str) -> str:
    return container.engine.try_docker("exec", container.id, "cat", path) or ""


# --- valkey -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def valkey_image(base_images: dict[str, str]) -> str:
    return base_images["VALKEY_IMAGE"]


def connected(server: Running, inside: int = 6379) -> redis.Redis:
    client = redis.Redis(port=server.port(inside), decode_responses=True)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    server.wait_until(answers, seconds=30)
    return client


def test_valkey_takes_options_and_serves_other_machines_as_its_own_user(valkey_image: str, start: Start) -> None:
    server = start("--publish", "127.0.0.1::6379", valkey_image, "--appendonly", "yes", "--maxmemory", "64mb")

    with connected(server) as client:
        client.set("greeting", "hello")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
        assert client.config_get("dir") == {"dir": "/data"}
    seen = server.exec("bash", "-c", "stat -c %u /proc/1 /data /data/appendonlydir; cat /proc/1/comm").split()
    assert seen == ["999", "999", "999", "valkey-server"]

    server.engine.docker("stop", "--time", "20", server.id)
    assert server.state("ExitCode") == "0"

    server.engine.docker("start", server.id)
    with connected(server) as client:
        assert client.get("greeting") == "hello"


def test_valkey_takes_a_configuration_file(valkey_image: str, start: Start, tmp_path: Path) -> None:
    settings = tmp_path / "valkey.conf"
    settings.write_text('port 7000\nnotify-keyspace-events "Kg$x"\n')
    settings.chmod(0o644)

    server = start(
        "--publish", "127.0.0.1::7000", valkey_image, "/etc/valkey.conf", prepared={str(settings): "/etc/valkey.conf"}
    )

    with connected(server, 7000) as client:
        assert set(client.config_get("notify-keyspace-events")["notify-keyspace-events"]) == set("Kg$x")


def test_valkey_runs_other_commands_as_they_are(engine: Engine, valkey_image: str) -> None:
    assert engine.docker("run", "--rm", valkey_image, "bash", "-c", "id -u; pwd").split() == ["0", "/data"]
