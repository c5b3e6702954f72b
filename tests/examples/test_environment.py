"""The environment is read once: defaults for a newcomer, and every fault told at once in plain words."""

from __future__ import annotations

import re
import socket
from datetime import timedelta
from pathlib import Path

import pytest

import microservices.environment
from microservices.environment import consumer_settings, provider_settings
from waypost.errors import SettingsError
from waypost.model.names import ServiceKey

NEEDED = {"WAYPOST_KAFKA_BOOTSTRAP": "kafka-1:9092", "WAYPOST_REDIS_URL": "redis://redis:6379/0"}
README = Path(microservices.environment.__file__).with_name("README.md")


def test_the_provider_needs_kafka_and_nothing_else() -> None:
    settings = provider_settings({"WAYPOST_KAFKA_BOOTSTRAP": "kafka-1:9092, kafka-2:9092"})

    assert settings.service == ServiceKey("default", "data-provider")
    assert (settings.port, settings.instance) == (8080, socket.gethostname())
    assert (settings.environment, settings.log_level) == ("development", "info")
    assert (settings.lease_seconds, settings.drain, settings.kafka_timeout_seconds) == (15, timedelta(seconds=5), 3)
    assert settings.advertise_address is None
    assert settings.kafka_bootstrap == "kafka-1:9092,kafka-2:9092"


def test_the_consumer_needs_redis_as_well() -> None:
    settings = consumer_settings(NEEDED)

    assert settings.own.service == ServiceKey("default", "data-consumer")
    assert settings.own.port == 8081
    assert settings.provider == ServiceKey("default", "data-provider")
    assert settings.redis_url == "redis://redis:6379/0"
    with pytest.raises(SettingsError, match=r"^WAYPOST_REDIS_URL must be set$"):
        consumer_settings({"WAYPOST_KAFKA_BOOTSTRAP": "kafka-1:9092"})


def test_everything_can_be_said() -> None:
    settings = consumer_settings(
        {
            **NEEDED,
            "PORT": "9000",
            "PROVIDER_SERVICE": "numbers",
            "CONSUMER_SERVICE": "reader",
            "NAMESPACE": "shop",
            "ENVIRONMENT": "production",
            "LOG_LEVEL": "DEBUG",
            "LEASE_SECONDS": "30",
            "DRAIN_SECONDS": "0.5",
            "ADVERTISE_ADDRESS": "2001:DB8::0:7",
            "INSTANCE_ID": "reader-1",
        }
    )

    own = settings.own
    assert own.service == ServiceKey("shop", "reader")
    assert settings.provider == ServiceKey("shop", "numbers")
    assert (own.port, own.instance, own.lease_seconds) == (9000, "reader-1", 30)
    assert (own.drain, own.log_level, own.advertise_address) == (timedelta(seconds=0.5), "debug", "2001:db8::7")
    assert own.names() == {"service": "shop/reader", "instance": "reader-1", "environment": "production"}


def test_an_empty_variable_is_an_unset_one() -> None:
    settings = provider_settings({**NEEDED, "PORT": "", "ENVIRONMENT": " ", "ADVERTISE_ADDRESS": ""})

    assert (settings.port, settings.environment, settings.advertise_address) == (8080, "development", None)
    with pytest.raises(SettingsError, match="WAYPOST_KAFKA_BOOTSTRAP must be set"):
        provider_settings({"WAYPOST_KAFKA_BOOTSTRAP": ""})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "８０"),
        ("PROVIDER_SERVICE", "Data_Provider"),
        ("NAMESPACE", "a.b"),
        ("ENVIRONMENT", "on prem"),
        ("LOG_LEVEL", "loud"),
        ("WAYPOST_KAFKA_BOOTSTRAP", "kafka"),
        ("WAYPOST_KAFKA_BOOTSTRAP", "kafka:9092,"),
        ("LEASE_SECONDS", "1"),
        ("LEASE_SECONDS", "15s"),
        ("LEASE_SECONDS", "²"),
        ("KAFKA_TIMEOUT_SECONDS", "0"),
        ("KAFKA_TIMEOUT_SECONDS", "1e3"),
        ("DRAIN_SECONDS", "-1"),
        ("DRAIN_SECONDS", "nan"),
        ("DRAIN_SECONDS", "inf"),
        ("ADVERTISE_ADDRESS", "0.0.0.0"),
        ("ADVERTISE_ADDRESS", "10.0.0"),
        ("INSTANCE_ID", "a b"),
        ("INSTANCE_ID", "x" * 254),
    ],
)
def test_a_bad_value_is_named_with_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} must be .*{re.escape(repr(value))}"):
        provider_settings({**NEEDED, variable: value})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        consumer_settings({"PORT": "x", "LEASE_SECONDS": "x"})

    faults = [fault.split()[0] for fault in str(caught.value).split("; ")]
    assert faults == ["PORT", "WAYPOST_KAFKA_BOOTSTRAP", "LEASE_SECONDS", "WAYPOST_REDIS_URL"]


def test_a_password_is_not_told() -> None:
    with pytest.raises(SettingsError) as caught:
        consumer_settings({**NEEDED, "WAYPOST_REDIS_URL": "http://:secret@redis"})

    assert "WAYPOST_REDIS_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_readme_lists_every_variable() -> None:
    source = Path(microservices.environment.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'"([A-Z]{2,}(?:_[A-Z]+)*)"', source))

    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE))

    assert len(read) > 10
    assert listed == read
