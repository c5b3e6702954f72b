"""The bridge as it runs: a process, a broker that is stopped and comes back, and Prometheus with Alertmanager."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.bridge.notifications import CRASH, a_notification, an_entry
from tests.e2e.monitoring import Monitoring, start_bridge, watching
from tests.e2e.tables import eventually
from tests.gateway.conftest import Process
from waypost.bridge.webhook import MAX_BYTES
from waypost.local import jars
from waypost.local.java import java_home
from waypost.local.kafka import Kafka
from waypost.local.ports import LOOPBACK, free_ports, is_listening
from waypost.model.alert import Alert, AlertStatus
from waypost.topics import ALERTS, DEAD_LETTER, default_topics, ensure_topics
from waypost.wire.alerts import decode_alert

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PARTITIONS = range(default_topics()[ALERTS].partitions)


@dataclass
class Broker:
    """A broker of the test's own, which it may stop; its log stays."""

    server: Kafka
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.server.prepare()
        log = self.server.directory.with_suffix(".log")
        self.process = Process(self.server.command, self.server.is_healthy, log)

    def alerts(self) -> list[tuple[str, Alert]]:
        """Return key and alert of everything on `alerts`, by partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.server.bootstrap, group_id=None, auto_offset_reset="earliest")
        try:
            parts = [TopicPartition("alerts", n) for n in PARTITIONS]
            consumer.assign(parts)
            ends = consumer.end_offsets(parts)
            found = []
            while any(consumer.position(part) < ends[part] for part in parts):
                for records in consumer.poll(timeout_ms=200).values():
                    found += [(record.key.decode(), decode_alert(record.value)) for record in records]
            return found
        finally:
            consumer.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    port, controller = free_ports([None, None])
    broker = Broker(
        Kafka(
            directory=tmp_path / "kafka",
            jars=jars.kafka_jars(),
            java_home=java_home(),
            port=port,
            controller_port=controller,
        )
    )
    topics = default_topics()
    try:
        broker.process.start()
        ensure_topics(broker.server.bootstrap, [topics[ALERTS], topics[DEAD_LETTER]])
        yield broker
    finally:
        broker.process.kill()


def test_no_alert_is_acknowledged_before_kafka_has_it(broker: Broker, tmp_path: Path) -> None:
    bridge = start_bridge(tmp_path, broker.server.bootstrap)
    first, second = (orjson.dumps(a_notification(an_entry(fingerprint=name))) for name in ("a", "b"))
    try:
        assert bridge.post(first) == 200
        assert [(key, alert.fingerprint) for key, alert in broker.alerts()] == [("shop/payments", "a")]
        assert [bridge.post(first, token="somebody-elses-token"), bridge.post(b"{}")] == [401, 400]
        assert bridge.post(b" " * (MAX_BYTES + 1)) == 413

        broker.process.kill()
        assert bridge.post(second) == 503
        broker.process.start()
        eventually(lambda: bridge.post(second) == 200)

        found = [alert.fingerprint for _, alert in broker.alerts()]
        assert found[0] == "a"
        assert set(found) == {"a", "b"}  # what was written and not acknowledged may be there twice
        assert bridge.process.end() == 0
    finally:
        bridge.process.kill()


@pytest.fixture
def monitoring(broker: Broker, tmp_path: Path) -> Iterator[Monitoring]:
    with watching(tmp_path, broker.server.bootstrap) as monitoring:
        yield monitoring


def test_a_rule_that_fires_becomes_a_record_also_when_kafka_was_away(broker: Broker, monitoring: Monitoring) -> None:
    node = {"alertname": "KubeNodeNotReady", "node": "n1", "service": "kube-state-metrics"}
    monitoring.fire(CRASH)
    [(key, alert)] = eventually(broker.alerts)
    assert (key, alert.type, alert.pod, alert.status) == (
        "shop/payments", "PodCrash", "payments-1", AlertStatus.FIRING,
    )  # fmt: skip
    assert alert.annotations == {"summary": "it fell"}

    broker.process.kill()
    monitoring.fire(CRASH, node)
    eventually(lambda: monitoring.bridge.requests("503") > 0)
    broker.process.start()
    eventually(lambda: ("node/n1", AlertStatus.FIRING) in states(broker))

    monitoring.fire(node)  # the crash is over
    eventually(lambda: ("shop/payments", AlertStatus.RESOLVED) in states(broker))
    crashes = [alert for key, alert in broker.alerts() if key == "shop/payments"]
    assert {(a.fingerprint, a.starts_at) for a in crashes} == {(alert.fingerprint, alert.starts_at)}


def states(broker: Broker) -> list[tuple[str, AlertStatus]]:
    return [(key, alert.status) for key, alert in broker.alerts()]


def test_only_senders_with_a_certificate_of_ours_are_let_in(tmp_path: Path) -> None:
    """No broker: a sender who was let in is told 503."""
    make_certificates(tmp_path)
    port, nobody = free_ports([None, None])
    files = {name: str(tmp_path / name) for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")}
    command = [
        sys.executable, "-m", "waypost", "bridge", "--kafka", f"{LOOPBACK}:{nobody}", "--listen", f"{LOOPBACK}:{port}",
        "--tls-cert", files["server.pem"], "--tls-key", files["server.key"], "--client-ca", files["ca.pem"],
    ]  # fmt: skip
    process = Process(lambda: command, lambda: is_listening(port), tmp_path / "bridge.log")
    try:
        process.start()
        stranger = ssl.create_default_context(cafile=files["ca.pem"])
        known = ssl.create_default_context(cafile=files["ca.pem"])
        known.load_cert_chain(files["client.pem"], files["client.key"])
        url, content = f"https://localhost:{port}/alertmanager", orjson.dumps(a_notification(an_entry()))
        with httpx.Client(verify=stranger, trust_env=False, timeout=60) as client, pytest.raises(httpx.TransportError):
            client.post(url, content=content)
        with httpx.Client(verify=known, trust_env=False, timeout=60) as client:
            assert client.post(url, content=content).status_code == 503
        assert process.end() == 0
    finally:
        process.kill()


def make_certificates(directory: Path) -> None:
    """An authority, and certificates of it for localhost and for a client."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for name in ("server", "client"):
        (directory / f"{name}.ext").write_text("subjectAltName=DNS:localhost\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip
