"""Topics whose append times a test chooses, and runs of the real job over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import redis

from tests.model.oracle import Dead, Record
from waypost.client.keys import Keys
from waypost.local import jars
from waypost.local.java import java_home
from waypost.model.health_window import ServiceWindow
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.dead_letter import DeadLetter, decode_dead_letter
from waypost.wire.endpoint import Endpoint, KnownInstance, decode_endpoint, decode_instance
from waypost.wire.health_window import decode_window

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry"
HEARTBEAT = "heartbeat"
ISOLATION = "isolation"
WITHIN_S = 300.0


class Planned(NamedTuple):
    """A record before it is written. `topic` is REGISTRY, HEARTBEAT or ISOLATION."""

    topic: str
    at: int
    partition: int
    key: bytes | None
    value: bytes | None


@dataclass
class Topics:
    """The five topics of one log on a shared broker."""

    bootstrap: str
    partitions: int = 4
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    written: list[Record] = field(default_factory=list)
    _next: Counter[tuple[str, int]] = field(default_factory=Counter)

    def name(self, role: str) -> str:
        return f"{role}-{self.tag}"

    def create(self) -> None:
        """Create them with the producer's timestamps: then the test is the broker's clock."""
        from kafka import KafkaAdminClient

        configs = {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(2**63 - 1),
            "retention.ms": "-1",
            "max.message.bytes": "2097152",
        }
        names = [self.name(role) for role in (REGISTRY, HEARTBEAT, ISOLATION, "changes", "dead")]
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics(
                {n: {"num_partitions": self.partitions, "replication_factor": 1, "configs": configs} for n in names},
                raise_errors=True,
            )
            admin.wait_for_topics(names, timeout_ms=20_000)
        finally:
            admin.close()

    def write(self, records: Iterable[Planned]) -> list[Record]:
        """Append the records in the given order; return them with their positions."""
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", linger_ms=20, batch_size=256 * 1024, max_request_size=2**21
        )
        sent = []
        try:
            for topic, at, partition, key, value in records:
                future = producer.send(self.name(topic), key=key, value=value, partition=partition, timestamp_ms=at)
                offset = self._next[topic, partition]
                self._next[topic, partition] += 1
                sent.append((future, Record(self.name(topic), Stamp(at, partition, offset), key, value)))
            producer.flush()
            for future, record in sent:
                assert future.get(timeout=30).offset == record.stamp.offset, "the broker numbered otherwise"
        finally:
            producer.close()
        found = [record for _, record in sent]
        self.written += found
        return found

    def read(self, role: str) -> list[tuple[bytes | None, bytes]]:
        """Return every record (key, value) of an output topic."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, group_id=None)
        try:
            partitions = [TopicPartition(self.name(role), p) for p in range(self.partitions)]
            ends = consumer.end_offsets(partitions)
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            found = []
            deadline = time.monotonic() + 30
            while any(consumer.position(p) < ends[p] for p in partitions):
                assert time.monotonic() < deadline
                for batch in consumer.poll(timeout_ms=200).values():
                    found += [(record.key, record.value) for record in batch]
            return found
        finally:
            consumer.close()

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(value) for _, value in self.read("dead")]

    def dead(self) -> list[Dead]:
        """Return what is on the dead-letter topic, in order of position."""
        return sorted(Dead(d.topic, d.partition, d.offset, d.reason) for d in self.dead_letters())


@dataclass
class Tables:
    """What a gateway and a person find in Redis under one prefix."""

    url: str
    prefix: str

    def __post_init__(self) -> None:
        self.redis: Any = redis.Redis.from_url(self.url, decode_responses=True)
        self._keys = Keys(self.prefix)

    def services(self) -> list[ServiceKey]:
        return sorted(ServiceKey.parse(s) for s in self.redis.smembers(self._keys.services))

    def routes(self) -> dict[ServiceKey, dict[str, Endpoint]]:
        return {
            s: {i: decode_endpoint(text) for i, text in self.redis.hgetall(self._keys.route(s)).items()}
            for s in self.services()
        }

    def route_texts(self, service: ServiceKey) -> dict[str, str]:
        found: dict[str, str] = self.redis.hgetall(self._keys.route(service))
        return found

    def meta(self, service: ServiceKey) -> dict[str, str]:
        found: dict[str, str] = self.redis.hgetall(self._keys.meta(service))
        return found

    def instances(self) -> dict[ServiceKey, dict[str, KnownInstance]]:
        return {
            s: {i: decode_instance(text) for i, text in self.redis.hgetall(self._keys.instances(s)).items()}
            for s in self.services()
        }

    def changes(self) -> list[dict[str, str]]:
        return [fields for _, fields in self.redis.xrange(self._keys.changes)]

    def close(self) -> None:
        self.redis.close()


@dataclass(frozen=True)
class Report:
    """What one operator counted: calls of all its subtasks, and where it ran."""

    calls: int
    executables: frozenset[str]
    pemja: bool


class MiniCluster:
    """Runs the job in processes of its own. `directory` gets a sub-directory per run, with the job's log."""

    def __init__(self, bootstrap: str, redis_url: str, directory: Path) -> None:
        self._bootstrap = bootstrap
        self.redis_url = redis_url
        self._directory = directory
        self._runs = 0

    def prefix(self, topics: Topics) -> str:
        return f"flink-{topics.tag}:"

    @contextmanager
    def running(self, topics: Topics, *settings: str, **flink: str) -> Iterator[Running]:
        """Run the job without end inside the block."""
        process, directory = self._start(topics, settings, flink)
        try:
            yield Running(process, directory)
        finally:
            _stop(process)

    def _start(
        self, topics: Topics, settings: Iterable[str], flink: dict[str, str]
    ) -> tuple[subprocess.Popen[str], Path]:
        self._runs += 1
        directory = self._directory / f"run-{self._runs}"
        (directory / "probes").mkdir(parents=True)
        (directory / "tmp").mkdir()
        request = {
            "settings": [
                f"kafka.bootstrap={self._bootstrap}",
                f"kafka.group_id=flink-{topics.tag}",
                f"topics.registry={topics.name(REGISTRY)}",
                f"topics.heartbeat={topics.name(HEARTBEAT)}",
                f"topics.isolation={topics.name(ISOLATION)}",
                f"topics.route_changes={topics.name('changes')}",
                f"topics.dead_letter={topics.name('dead')}",
                f"redis.url={self.redis_url}",
                f"redis.prefix={self.prefix(topics)}",
                "redis.timeout_ms=5000",
                "lease.shards=8",
                "routes.coalesce_ms=0",
                "job.parallelism=2",
                "job.source_parallelism=2",
                *settings,
            ],
            "flink": {
                "pipeline.jars": ";".join(jar.as_uri() for jar in jars.flink_connector_jars()),
                "python.executable": sys.executable,
                "python.client.executable": sys.executable,
                "restart-strategy.type": "none",
                "io.tmp.dirs": str(directory / "tmp"),
                "execution.checkpointing.dir": (directory / "checkpoints").as_uri(),
                **{name.replace("__", "-").replace("_", "."): value for name, value in flink.items()},
            },
        }
        (directory / "request.json").write_text(json.dumps(request))
        environ = {
            **os.environ,
            "JAVA_HOME": str(java_home()),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(directory / "tmp"),
            # A JVM that is killed leaves the jars it unpacked: with the test's files, they go in time.
            "JDK_JAVA_OPTIONS": f"-Djava.io.tmpdir={directory / 'tmp'}",
            "WAYPOST_PROBES": str(directory / "probes"),
        }
        with (directory / "job.log").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.flink.run_job", str(directory / "request.json")],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        return process, directory


@dataclass
class Running:
    """A job without end."""

    process: subprocess.Popen[str]
    directory: Path

    def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; fail when the job ends before or takes too long."""
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert self.process.poll() is None, f"the job ended: {_tail(self.directory)}"
            assert time.monotonic() < deadline, f"not in time: {_tail(self.directory)}"
            time.sleep(0.1)

    def until_leased(self, stamps: Iterable[Stamp]) -> None:
        """Return when beats count for these registrations: they reach the lease fold later than the route fold."""
        wanted = {f"{stamp.partition} {stamp.offset}" for stamp in stamps}
        self.until(lambda: wanted <= set(self._lines("leased")))

    def windows(self) -> list[tuple[ServiceKey, ServiceWindow]]:
        """Return every window that the route fold was told of."""
        pairs = (line.split(" ", 1) for line in self._lines("windows"))
        return [(ServiceKey.parse(service), decode_window(body.encode())) for service, body in pairs]

    def _lines(self, probe: str) -> list[str]:
        files = (self.directory / "probes").glob(f"{probe}-*.lines")
        return [line for file in files for line in file.read_text().splitlines()]

    def stop_with_savepoint(self, directory: Path) -> str:
        """Stop the job and return where its state is."""
        said = self._tell(f"savepoint {directory.as_uri()}", "savepoint")
        return str(said)

    def cancel(self) -> None:
        self._tell("cancel", "cancelled")

    def reports(self) -> dict[str, Report]:
        """Return what the operators counted so far."""
        return _reports(self.directory)

    def _tell(self, command: str, answer: str) -> object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{") and answer in (said := json.loads(line)):
                self.process.wait(WITHIN_S)
                return said[answer]
        raise AssertionError(f"no answer to {command!r}: {_tail(self.directory)}")


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process and the JVM it started; they are a session of their own."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _tail(directory: Path) -> str:
    lines = (directory / "job.log").read_text(errors="replace").splitlines()
    telling = [line for line in lines if not line.lstrip().startswith(("at java", "at org", "INFO", "..."))]
    return f"{directory}\n" + "\n".join(telling[-60:])


def _reports(directory: Path) -> dict[str, Report]:
    found: dict[str, list[dict[str, Any]]] = {}
    for file in (directory / "probes").glob("*.json"):
        one = json.loads(file.read_text())
        found.setdefault(one["operator"], []).append(one)
    return {
        operator: Report(
            sum(one["calls"] for one in several),
            frozenset(one["executable"] for one in several),
            all(one["pemja"] for one in several),
        )
        for operator, several in found.items()
    }
