"""Topics of a repair job, runs of it that can be killed at any moment, and what they left on the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.flink.mini_cluster import ROOT, WITHIN_S
from waypost.local import jars
from waypost.local.java import java_home
from waypost.wire.repair_decisions import DecisionKind, DecisionRecord, decode_decision
from waypost.wire.repair_results import RepairResult, decode_result

ROLES = ("alerts", "repair_actions", "repair_results", "route_changes", "isolation", "config", "dead_letter")
PARTITIONS = 2


@dataclass
class RepairTopics:
    """The topics of one installation on a shared broker."""

    bootstrap: str
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def name(self, role: str) -> str:
        return f"{role.replace('_', '-')}-{self.tag}"

    def create(self) -> None:
        from kafka import KafkaAdminClient

        names = [self.name(role) for role in ROLES]
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            wanted: dict[str, Any] = {n: {"num_partitions": PARTITIONS, "replication_factor": 1} for n in names}
            admin.create_topics(wanted, raise_errors=True)
            admin.wait_for_topics(names, timeout_ms=20_000)
        finally:
            admin.close()

    def write(self, role: str, *records: tuple[bytes | None, bytes | None]) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        try:
            sent = [producer.send(self.name(role), key=key, value=value) for key, value in records]
            producer.flush()
            for one in sent:
                one.get(timeout=30)
        finally:
            producer.close()

    def read(self, role: str) -> list[bytes]:
        """Return all values of a topic; those of one key in their order."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, group_id=None)
        try:
            partitions = [TopicPartition(self.name(role), p) for p in range(PARTITIONS)]
            ends = consumer.end_offsets(partitions)
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            found: list[bytes] = []
            deadline = time.monotonic() + 30
            while any(consumer.position(p) < ends[p] for p in partitions):
                assert time.monotonic() < deadline
                for batch in consumer.poll(timeout_ms=200).values():
                    found += [record.value for record in batch]
            return found
        finally:
            consumer.close()

    def decisions(self) -> list[DecisionRecord]:
        return [decode_decision(value) for value in self.read("repair_actions")]

    def granted(self) -> list[DecisionRecord]:
        return [one for one in self.decisions() if one.kind in (DecisionKind.ACT, DecisionKind.UNDO)]

    def results(self) -> list[RepairResult]:
        return [decode_result(value) for value in self.read("repair_results")]


class RepairCluster:
    """Runs the job, each time from the newest checkpoint that an earlier run left."""

    def __init__(self, topics: RepairTopics, kubeconfig: Path, directory: Path) -> None:
        self._topics, self._kubeconfig, self._directory = topics, kubeconfig, directory
        self._runs = 0

    @contextmanager
    def running(self, meanwhile: Callable[[], None]) -> Iterator[RunningRepair]:
        """Run the job inside the block; `meanwhile` is called while somebody waits for it."""
        self._runs += 1
        directory = self._directory / f"run-{self._runs}"
        (directory / "tmp").mkdir(parents=True)
        request = {
            "settings": [
                f"kafka.bootstrap={self._topics.bootstrap}",
                f"repair.group_id=repair-{self._topics.tag}",
                f"repair.kubeconfig={self._kubeconfig}",
                "job.checkpoint_ms=1000",
                *(f"topics.{role}={self._topics.name(role)}" for role in ROLES),
            ],
            "flink": self._flink(directory),
        }
        (directory / "request.json").write_text(json.dumps(request))
        environ = {
            **os.environ,
            "JAVA_HOME": str(java_home()),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(directory / "tmp"),
            "JDK_JAVA_OPTIONS": f"-Djava.io.tmpdir={directory / 'tmp'}",
        }
        with (directory / "job.log").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.flink.run_repair_job", str(directory / "request.json")],
                cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True,
            )  # fmt: skip
        job = RunningRepair(process, directory, meanwhile)
        try:
            yield job
        finally:
            job.kill()

    def _flink(self, directory: Path) -> dict[str, str]:
        conf = {
            "pipeline.jars": ";".join(jar.as_uri() for jar in jars.flink_connector_jars()),
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            "restart-strategy.type": "none",
            "io.tmp.dirs": str(directory / "tmp"),
            "execution.checkpointing.dir": (self._directory / "checkpoints").as_uri(),
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        }
        done = [path.parent for path in (self._directory / "checkpoints").glob("*/chk-*/_metadata")]
        if done:
            newest = max(done, key=lambda path: (path / "_metadata").stat().st_mtime_ns)
            conf["execution.state-recovery.path"] = newest.as_uri()
        return conf


@dataclass
class RunningRepair:
    """A run of the job."""

    process: subprocess.Popen[str]
    directory: Path
    meanwhile: Callable[[], None]

    def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; fail when the job ends before or takes too long."""
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert self.process.poll() is None, f"the job ended: {self._tail()}"
            assert time.monotonic() < deadline, f"not in time: {self._tail()}"
            self.meanwhile()
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, with the JVM it started; they are a session of their own."""
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _tail(self) -> str:
        lines = (self.directory / "job.log").read_text(errors="replace").splitlines()
        telling = [line for line in lines if not line.lstrip().startswith(("at java", "at org", "..."))]
        return f"{self.directory}\n" + "\n".join(telling[-60:])
