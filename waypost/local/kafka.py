"""One Kafka broker (KRaft, combined controller) from the jars of Maven Central."""

from __future__ import annotations

import itertools
import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from waypost.errors import StackError
from waypost.local.ports import LOOPBACK, is_listening

HEAP_MB = 512
"""Ample for a few topics at 200k records/s; ~440 MB resident were seen. Log data lives in the page cache."""


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """How to start the broker and how to ask whether it serves."""

    directory: Path
    jars: Path
    java_home: Path
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Write the configuration and format the log directory once; a formatted one keeps its data."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(f"{k}={v}\n" for k, v in self._settings().items()))
        if (self._data / "meta.properties").exists():
            return
        # One in 64 begins with a dash, which the tool would take for an option.
        ids = (urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=") for _ in itertools.count())
        cluster_id = next(name for name in ids if not name.startswith("-"))
        formatted = subprocess.run(
            [*self._java(128), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties)],
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode != 0:
            raise StackError(f"Kafka's storage could not be formatted: {formatted.stderr.strip()[-500:]}")

    def command(self) -> list[str]:
        return [*self._java(HEAP_MB), "kafka.Kafka", str(self._properties)]

    def is_healthy(self) -> bool:
        """Return whether the broker answers a metadata request with itself and a controller."""
        return is_listening(self.port) and broker_answers(self.bootstrap)

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _java(self, heap_mb: int) -> list[str]:
        return [
            str(self.java_home / "bin" / "java"),
            f"-Xmx{heap_mb}m",
            "-Xms64m",
            # Two shared cores: concurrent collectors would fight the work for them.
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Djava.io.tmpdir={self.directory}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
            "-cp",
            f"{self.jars}/*",
        ]

    def _settings(self) -> dict[str, object]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._data,
            # A misspelt topic must be an error, not a new topic with the client's clock.
            "auto.create.topics.enable": "false",
            "log.message.timestamp.type": "LogAppendTime",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "controlled.shutdown.enable": "false",
            "log.segment.bytes": 64 * 1024 * 1024,
            "log.retention.check.interval.ms": 60_000,
        }


def broker_answers(bootstrap: str, timeout: float = 3.0) -> bool:
    """Return whether a metadata request is answered by at least one broker that knows a controller."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    client = None
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            request_timeout_ms=int(timeout * 1000),
            bootstrap_timeout_ms=int(timeout * 1000),
        )
        return bool(client.describe_cluster()["brokers"])
    except (KafkaError, OSError, ValueError, KeyError):
        return False
    finally:
        if client is not None:
            client.close()
