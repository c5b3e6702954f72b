"""A real standalone Flink cluster from the `apache-flink` wheel: one JobManager, TaskManagers of one slot.

The wheel's start scripts are not used for the servers: each starts four or five JVMs to compute the
flags of the one that matters, seconds per part on a small machine. We start the same main classes
with the same flags. Jobs are submitted with the wheel's own `flink run`.

The wheel is not touched: configuration, `lib/` (links into the wheel plus two jars) and everything
written live in the stack's state directory.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import yaml

from waypost.errors import StackError
from waypost.flink.settings import job_settings
from waypost.flink.submission import Snapshots
from waypost.local.ports import LOOPBACK

JOB_MANAGER_CLASS = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER_CLASS = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


@dataclass(frozen=True, kw_only=True)
class TaskManagerMemory:
    """Where a TaskManager's memory goes, in MiB; ~1.2 GB together.

    Everything is said because a JVM started without Flink's scripts is told its limits by nobody else.
    """

    heap: int = 448
    """Records, keyed state (hashmap backend) and the JVM operators. 100k leases take a few MB, 1M ~100 MB twice
    during a checkpoint."""
    framework_heap: int = 128
    """Flink's own; its default."""
    off_heap: int = 64
    """Direct buffers of the Kafka clients."""
    framework_off_heap: int = 128
    """Flink's own; its default."""
    network: int = 64
    """Buffers between tasks; parallelism is small."""
    managed: int = 96
    """SQL's window buffers. Too little and TUMBLE spills early."""
    metaspace: int = 256
    """Classes, generated SQL included; each restart of a job loads them again until the collector comes."""
    overhead: int = 192
    """Native memory, and in thread mode the Python interpreter: not enforced by Flink, only accounted for."""

    @property
    def process(self) -> int:
        return (
            self.heap
            + self.framework_heap
            + self.off_heap
            + self.framework_off_heap
            + self.network
            + self.managed
            + self.metaspace
            + self.overhead
        )

    def settings(self) -> dict[str, str]:
        """Return the configuration that a TaskManager without start script insists on."""
        sizes = {
            "taskmanager.memory.task.heap.size": self.heap,
            "taskmanager.memory.framework.heap.size": self.framework_heap,
            "taskmanager.memory.task.off-heap.size": self.off_heap,
            "taskmanager.memory.framework.off-heap.size": self.framework_off_heap,
            "taskmanager.memory.network.min": self.network,
            "taskmanager.memory.network.max": self.network,
            "taskmanager.memory.managed.size": self.managed,
            "taskmanager.memory.jvm-metaspace.size": self.metaspace,
            "taskmanager.memory.jvm-overhead.min": self.overhead,
            "taskmanager.memory.jvm-overhead.max": self.overhead,
        }
        return {"taskmanager.cpu.cores": "1.0", **{key: f"{mib}m" for key, mib in sizes.items()}}

    def jvm_flags(self) -> list[str]:
        heap = self.heap + self.framework_heap
        return [
            f"-Xmx{heap}m",
            f"-Xms{heap}m",
            f"-XX:MaxDirectMemorySize={self.off_heap + self.framework_off_heap + self.network}m",
            f"-XX:MaxMetaspaceSize={self.metaspace}m",
        ]


JOB_MANAGER_FLAGS = ("-Xmx320m", "-Xms320m", "-XX:MaxDirectMemorySize=128m", "-XX:MaxMetaspaceSize=192m")
"""~700 MB in the worst case: coordination only, checkpoint data goes to files."""


@dataclass(frozen=True, kw_only=True)
class Flink:
    """How to start the cluster's parts and how to ask for their health."""

    directory: Path
    java_home: Path
    log_dir: Path
    rest_port: int
    rpc_port: int
    blob_port: int
    connector_jars: tuple[Path, ...]
    snapshots: Snapshots
    memory: TaskManagerMemory = field(default_factory=TaskManagerMemory)
    extra_settings: Mapping[str, str] = field(default_factory=dict)
    metrics_ports: Mapping[str, int] = field(default_factory=dict)
    """By part. Empty: no metrics, because Flink's reporter listens on every interface, and this stack on loopback."""

    @property
    def rest(self) -> str:
        return f"http://{LOOPBACK}:{self.rest_port}"

    def prepare(self) -> None:
        """Write `conf/` and `lib/`; both are made anew each time, they hold nothing worth keeping."""
        home = flink_home()
        for fresh in (self._conf, self._lib, self._tmp):
            shutil.rmtree(fresh, ignore_errors=True)
        for directory in (self._conf, self._lib, self._tmp, self.log_dir, *asdict(self.snapshots).values()):
            directory.mkdir(parents=True, exist_ok=True)
        for properties in (home / "conf").glob("log4j*.properties"):
            shutil.copy(properties, self._conf)
        (self._conf / "config.yaml").write_text(yaml.safe_dump(self.settings(), width=10_000))
        jars = [*(home / "lib").glob("*.jar"), *(home / "opt").glob("flink-python-*.jar"), *self.connector_jars]
        for jar in jars:
            (self._lib / jar.name).symlink_to(jar)

    def job_manager_command(self) -> list[str]:
        return [
            *self._java(JOB_MANAGER_FLAGS, "jobmanager"),
            JOB_MANAGER_CLASS,
            "--configDir",
            str(self._conf),
            *self._metrics("jobmanager"),
        ]

    def task_manager_command(self, resource_id: str) -> list[str]:
        """Return the command of one TaskManager.

        `resource_id` must be new with each start: the JobManager keeps a dead one listed until its
        heartbeat times out, and whoever waits for fresh TaskManagers must not count that one.
        """
        return [
            *self._java(self.memory.jvm_flags(), resource_id.rsplit(".", 1)[0]),
            TASK_MANAGER_CLASS,
            "--configDir",
            str(self._conf),
            "-D",
            f"taskmanager.resource-id={resource_id}",
            *self._metrics(resource_id.rsplit(".", 1)[0]),
        ]

    def environ(self) -> dict[str, str]:
        """Return what the servers and `flink run` need in their environment."""
        home = flink_home()
        return {
            "JAVA_HOME": str(self.java_home),
            "FLINK_CONF_DIR": str(self._conf),
            "FLINK_LIB_DIR": str(self._lib),
            "FLINK_OPT_DIR": str(home / "opt"),
            "FLINK_PLUGINS_DIR": str(home / "plugins"),
            "FLINK_LOG_DIR": str(self.log_dir),
            "MAX_LOG_FILE_NUMBER": "2",
            "TMPDIR": str(self._tmp),
            # Thread mode: PemJa's interpreter finds its packages through the first `python3` on the path, and
            # ends with "No module named 'pemja'" otherwise, whatever `python.executable` says.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            # For `flink run`: a one-off JVM wants to be up soon, not fast for long.
            "JVM_ARGS": f"-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.io.tmpdir={self._tmp}",
            # Modules come from the job zip alone, never from a path of the caller's.
            "PYTHONPATH": "",
        }

    def settings(self) -> dict[str, str]:
        """Return Flink's configuration: what the jobs need anywhere, and what this cluster adds."""
        shared = job_settings()
        return {
            **{key: value for key, value in shared.items() if self.metrics_ports or not key.startswith("metrics.")},
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.rpc.port": str(self.rpc_port),
            "jobmanager.bind-host": LOOPBACK,
            "blob.server.port": str(self.blob_port),
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "rest.port": str(self.rest_port),
            "rest.bind-port": str(self.rest_port),
            "web.upload.dir": str(self._tmp),
            "web.tmpdir": str(self._tmp),
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            "io.tmp.dirs": str(self._tmp),
            "env.java.home": str(self.java_home),
            "env.java.opts.all": " ".join(_opened_modules()),
            "env.log.max": "2",
            **self.memory.settings(),
            "execution.checkpointing.dir": self.snapshots.checkpoints.as_uri(),
            "execution.checkpointing.savepoint-dir": self.snapshots.savepoints.as_uri(),
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            **self.extra_settings,
        }

    @property
    def run_command(self) -> Path:
        """The wheel's `flink` command."""
        return flink_home() / "bin" / "flink"

    @property
    def tmp(self) -> Path:
        return self._tmp

    @property
    def _conf(self) -> Path:
        return self.directory / "conf"

    @property
    def _lib(self) -> Path:
        return self.directory / "lib"

    @property
    def _tmp(self) -> Path:
        return self.directory / "tmp"

    def _metrics(self, part: str) -> list[str]:
        port = self.metrics_ports.get(part)
        return ["-D", f"metrics.reporter.prom.port={port}"] if port else []

    def _java(self, flags: tuple[str, ...] | list[str], log_name: str) -> list[str]:
        return [
            str(self.java_home / "bin" / "java"),
            *flags,
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Djava.io.tmpdir={self._tmp}",
            *_opened_modules(),
            f"-Dlog.file={self.log_dir / log_name}.log",
            f"-Dlog4j.configurationFile=file:{self._conf / 'log4j.properties'}",
            "-cp",
            f"{self._lib}/*",
        ]


def flink_home() -> Path:
    """Return the Flink distribution inside the `apache-flink` wheel, without importing it."""
    spec = find_spec("pyflink")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("PyFlink is not installed; run `make setup` or pip install 'waypost[flink]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _opened_modules() -> list[str]:
    """Return the module flags of the wheel's own configuration (they change from version to version)."""
    shipped = yaml.safe_load((flink_home() / "conf" / "config.yaml").read_text())
    return str(shipped["env"]["java"]["opts"]["all"]).split()
