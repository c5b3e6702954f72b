"""Java's words for a secured broker, in kafka-python's."""

from __future__ import annotations

import pytest

from sinks.kubernetes_repair import KubernetesRepairSink
from waypost.errors import SettingsError
from waypost.kafka_security import client_settings
from waypost.settings import Settings

SCRAM = 'org.apache.kafka.common.security.scram.ScramLoginModule required username="waypost" password="a\\"b;c=d"'


def test_a_name_and_a_password_over_tls() -> None:
    assert client_settings(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": SCRAM,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/etc/kafka/ca.pem",
            "max.poll.records": "100",
        }
    ) == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "waypost",
        "sasl_plain_password": 'a"b;c=d',
        "ssl_cafile": "/etc/kafka/ca.pem",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl.truststore.location", "/etc/kafka/ca.jks"),
        ("ssl.truststore.password", "s3cret"),
        ("sasl.mechanism", "GSSAPI"),
        ("sasl.jaas.config", "Krb5LoginModule required s3cret"),
        ("ssl.engine.factory.class", "s3cret"),
    ],
)
def test_what_python_cannot_do_is_an_error_that_tells_no_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        client_settings({name: value})

    assert "s3cret" not in str(refused.value)


def test_kafka_python_knows_every_word() -> None:
    from kafka import KafkaConsumer

    words = client_settings(
        {
            "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": SCRAM,
            "ssl.truststore.location": "/ca", "ssl.truststore.type": "PEM", "ssl.keystore.location": "/key",
            "ssl.keystore.type": "PEM", "ssl.key.password": "x", "ssl.endpoint.identification.algorithm": "",
        }
    )  # fmt: skip
    assert words.keys() <= KafkaConsumer.DEFAULT_CONFIG.keys()
    assert words["ssl_check_hostname"] is False


def test_a_repair_job_that_could_not_read_its_switch_is_not_started() -> None:
    settings = Settings.load(overrides=["kafka.properties=security.protocol=SSL;ssl.truststore.location=/ca.jks"])

    with pytest.raises(SettingsError, match=r"ssl\.truststore\.type"):
        KubernetesRepairSink.of(settings)
