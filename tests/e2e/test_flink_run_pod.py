"""The pod of the target `flink-run`: its three containers as processes, by the image's own entry point.

Only paths, ports and addresses are others than in a container. What Kubernetes makes of it is in tests/kubernetes.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from tests.controller.discoveries import a_discovery
from tests.e2e.tables import eventually
from waypost.client.event_sink import KafkaSink
from waypost.client.keys import Keys
from waypost.client.registrar import Registrar, Topics
from waypost.controller.discovery import Discovery
from waypost.controller.flink_run import flink_run_spec
from waypost.controller.topics import keep_topics
from waypost.local import jars, job_zip
from waypost.local.flink import flink_home
from waypost.local.java import java_home
from waypost.local.ports import free_ports
from waypost.local.process import belonging_to, end, spawn
from waypost.model.events import Attributes
from waypost.model.names import ServiceKey

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]


class Pod:
    """What the image has, laid out in a directory, and the containers' commands with that directory's paths."""

    def __init__(self, directory: Path, discovery: Discovery, environ: dict[str, str]) -> None:
        self.directory, self._environ = directory, environ
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rest, self._rpc, self._metrics, _ = free_ports([None] * 4)
        self.containers: list[dict[str, Any]] = flink_run_spec(discovery, "any", {})["template"]["spec"]["containers"]
        (directory / "opt").mkdir()
        (directory / "state").mkdir()
        job_zip.build(job_zip.source_root(), directory / "opt" / "waypost-job.zip")
        for name in ("flink.yaml", "log4j-console.properties", "entrypoint.sh"):
            (directory / "opt" / name).write_text(self._here((ROOT / "docker" / "flink" / name).read_text()))
        (directory / "opt" / "entrypoint.sh").chmod(0o755)
        self._lib = directory / "lib"
        self._lib.mkdir()
        own = [*(flink_home() / "lib").glob("*.jar"), *(flink_home() / "opt").glob("flink-python-*.jar")]
        for jar in (*own, *jars.flink_connector_jars()):
            (self._lib / jar.name).symlink_to(jar)

    def start(self, name: str) -> None:
        """Start a container by its name."""
        [container] = [one for one in self.containers if one["name"] == name]
        own = self.directory / name
        own.mkdir(exist_ok=True)
        environ = {one["name"]: one["value"] for one in container["env"]}
        environ["FLINK_PROPERTIES"] += self._elsewhere()
        environ |= {
            "FLINK_HOME": str(flink_home()),
            "FLINK_LIB_DIR": str(self._lib),
            "FLINK_OPT_DIR": str(flink_home() / "opt"),
            "FLINK_PLUGINS_DIR": str(flink_home() / "plugins"),
            "FLINK_CONF_DIR": str(own / "conf"),
            "FLINK_LOG_DIR": str(own / "log"),
            "FLINK_PID_DIR": str(own),
            "JAVA_HOME": str(java_home()),
            "HOSTNAME": "pod",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": "",
            **self._environ,
        }
        command = [str(self.directory / "opt" / "entrypoint.sh"), *map(self._here, container["args"])]
        self._processes[name] = spawn(
            command, state_dir=self.directory, log=self.directory / f"{name}.out", environ=environ
        )

    @property
    def is_ready(self) -> bool:
        """Run the readiness probe."""
        [probe] = [one["readinessProbe"] for one in self.containers if "readinessProbe" in one]
        _, *words = map(self._here, probe["exec"]["command"])
        done = subprocess.run([str(ROOT / "docker" / "healthy"), *words], capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def ended(self) -> dict[str, int]:
        """Return the status of each container that is not up any more."""
        return {name: status for name, one in self._processes.items() if (status := one.poll()) is not None}

    def stop(self) -> str:
        """End all of it; return the last words of each."""
        end(belonging_to(self.directory))
        for process in self._processes.values():
            process.wait()
        logs = sorted(self.directory.glob("*.out"))
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def _here(self, text: str) -> str:
        for there, here in (
            ("/opt/waypost", str(self.directory / "opt")),
            ("/opt/venv/bin/python3", sys.executable),
            ("/var/lib/flink", str(self.directory / "state")),
            ("/tmp/alive", str(self.directory / "alive")),
            ("localhost:8081", f"localhost:{self._rest}"),
            (": /tmp\n", f": {self.directory}\n"),
        ):
            text = text.replace(there, here)
        return text

    def _elsewhere(self) -> str:
        """Return the settings that keep it from other Flinks of this machine."""
        shipped = yaml.safe_load((flink_home() / "conf" / "config.yaml").read_text())
        own = {
            # What docker/flink/opened_modules.py adds to the image's configuration.
            "env.java.opts.all": shipped["env"]["java"]["opts"]["all"],
            "rest.port": str(self._rest),
            "rest.bind-address": "127.0.0.1",
            "jobmanager.rpc.port": str(self._rpc),
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "metrics.reporter.prom.port": f"{self._metrics}-{self._metrics + 100}",
        }
        return "".join(f"\n{key}: {value}" for key, value in own.items())


@pytest.fixture
def discovery(kafka: str) -> Discovery:
    """An installation of the test's own, its topics made as the controller makes them."""
    name = f"p{secrets.token_hex(3)}"
    topics = {f"{part}Topic": f"{name}-{part}" for part in ("heartbeat", "isolation", "routeChanges", "deadLetter")}
    own = {"topic": f"{name}-registry", "groupID": name, "redisPrefix": f"{name}:", **topics}
    made = a_discovery(name, **own, job={"target": "flink-run"}, lease={"shards": 4})
    assert keep_topics(kafka, made, ()).ready
    return made


@pytest.fixture
def pod(tmp_path: Path, discovery: Discovery, kafka: str, valkey: str) -> Iterator[Pod]:
    made = Pod(tmp_path, discovery, {"WAYPOST_KAFKA_BOOTSTRAP": kafka, "WAYPOST_REDIS_URL": valkey})
    yield made
    print(made.stop())


def test_the_pod_becomes_ready_and_makes_tables(pod: Pod, discovery: Discovery, kafka: str, valkey: str) -> None:
    for container in pod.containers:
        pod.start(container["name"])

    eventually(lambda: pod.is_ready, within_s=240)

    with Registrar(KafkaSink(kafka), topics=Topics(registry=discovery.topics.registry)) as registrar:
        registrar.register("web", "web-1", Attributes(address="10.1.2.3", port=8080))
    table = Keys(discovery.redis_prefix).route(ServiceKey("default", "web"))
    with redis.Redis.from_url(valkey) as tables:
        eventually(lambda: tables.hkeys(table) == [b"web-1"])
    assert pod.ended() == {}
