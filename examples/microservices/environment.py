"""How a service is to run, read from the environment in one place and checked before anything starts.

All faults are told at once. A variable that is empty counts as unset, which is what `${X:-}` in a compose file gives.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from waypost.errors import DecodeError, SettingsError
from waypost.model.events import MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey, is_instance, is_namespace, is_service
from waypost.wire.addresses import canonical_address

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
MAX_DRAIN_SECONDS = 3_600
MAX_KAFKA_TIMEOUT_SECONDS = 600
DEFAULT_LEASE_SECONDS = 15
"""A killed instance is called for this long at most. A demo wants to see that; the registry's own default is 90."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What every service needs: who it is, where it listens, and how it stays registered."""

    service: ServiceKey
    instance: str
    port: int
    """0: any free one."""
    advertise_address: str | None
    """Under which others call it; None: find out (see `microservices.addresses`)."""
    environment: str
    log_level: str
    kafka_bootstrap: str
    lease_seconds: int
    drain: timedelta
    """How long it serves on after it has drained: longer than a caller needs to hear of it."""
    kafka_timeout_seconds: int
    """For each event. A leave without Kafka takes four of these at most, which with the default DRAIN_SECONDS is within
    the 30 s that Kubernetes grants between SIGTERM and SIGKILL."""

    def names(self) -> dict[str, str]:
        """Return what every log line says of the service."""
        return {"service": str(self.service), "instance": self.instance, "environment": self.environment}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """What the consumer needs besides."""

    own: ServiceSettings
    provider: ServiceKey
    redis_url: str


def provider_settings(environ: Mapping[str, str]) -> ServiceSettings:
    """Return how to run the provider. Raises SettingsError."""
    variables = _Variables(environ)
    settings = _service_settings(variables, "PROVIDER_SERVICE", "data-provider", port=8080)
    variables.refuse_faults()
    return settings


def consumer_settings(environ: Mapping[str, str]) -> ConsumerSettings:
    """Return how to run the consumer. Raises SettingsError."""
    variables = _Variables(environ)
    own = _service_settings(variables, "CONSUMER_SERVICE", "data-consumer", port=8081)
    provider = variables.read("PROVIDER_SERVICE", "data-provider", _service_name)
    redis_url = variables.read("WAYPOST_REDIS_URL", None, _redis_url)
    variables.refuse_faults()
    return ConsumerSettings(own=own, provider=ServiceKey(own.service.namespace, provider), redis_url=redis_url)


class _Variables:
    """The environment, and what was wrong with it so far."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []

    def read(self, name: str, default: str | None, parse: Callable[[str], T]) -> T:
        """Return the parsed value. A fault is noted, and what is returned then is not to be used."""
        text = self._environ.get(name, "").strip() or default
        if text is None:
            self._faults.append(f"{name} must be set")
        else:
            try:
                return parse(text)
            except ValueError as error:
                self._faults.append(f"{name} {error}")
        return None  # type: ignore[return-value]  # refuse_faults comes before anybody sees it

    def refuse_faults(self) -> None:
        if self._faults:
            raise SettingsError("; ".join(self._faults))


def _service_settings(variables: _Variables, service_variable: str, service: str, *, port: int) -> ServiceSettings:
    name = variables.read(service_variable, service, _service_name)
    namespace = variables.read("NAMESPACE", DEFAULT_NAMESPACE, _namespace)
    return ServiceSettings(
        service=ServiceKey(namespace, name),
        instance=variables.read("INSTANCE_ID", socket.gethostname(), _instance),
        port=variables.read("PORT", str(port), _port),
        advertise_address=variables.read("ADVERTISE_ADDRESS", "", _address),
        environment=variables.read("ENVIRONMENT", "development", _environment),
        log_level=variables.read("LOG_LEVEL", "info", _log_level),
        kafka_bootstrap=variables.read("WAYPOST_KAFKA_BOOTSTRAP", None, _bootstrap),
        lease_seconds=variables.read("LEASE_SECONDS", str(DEFAULT_LEASE_SECONDS), _lease_seconds),
        drain=variables.read("DRAIN_SECONDS", "5", _drain),
        kafka_timeout_seconds=variables.read("KAFKA_TIMEOUT_SECONDS", "3", _kafka_timeout),
    )


def _service_name(text: str) -> str:
    if not is_service(text):
        raise ValueError(f"must be a service name (dotted labels of a-z 0-9 -), not {text!r}")
    return text


def _namespace(text: str) -> str:
    if not is_namespace(text):
        raise ValueError(f"must be a namespace (at most 63 of a-z 0-9 -), not {text!r}")
    return text


def _instance(text: str) -> str:
    if not is_instance(text):
        raise ValueError(f"must be an instance id (1 to 253 of A-Z a-z 0-9 . _ : -), not {text!r}")
    return text


def _port(text: str) -> int:
    if not _PORT.match(text) or int(text) > 65_535:
        raise ValueError(f"must be a port from 0 to 65535, not {text!r}")
    return int(text)


def _address(text: str) -> str | None:
    if not text:
        return None
    try:
        return canonical_address(text)
    except DecodeError as error:
        raise ValueError(f"must be an address others can call, not {text!r}: {error.detail}") from error


def _environment(text: str) -> str:
    if not _WORD.match(text):
        raise ValueError(f"must be 1 to 63 of A-Z a-z 0-9 . _ -, not {text!r}")
    return text


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}, not {text!r}")
    return text.lower()


def _bootstrap(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not _PORT.match(port) or not 1 <= int(port) <= 65_535:
            raise ValueError(f"must be HOST:PORT[,HOST:PORT…], not {text!r}")
    return ",".join(servers)


def _redis_url(text: str) -> str:
    if urlsplit(text).scheme not in ("redis", "rediss", "unix"):
        # Not repeated in the message: it may hold a password.
        raise ValueError("must be a URL that begins with redis://, rediss:// or unix://")
    return text


def _lease_seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not MIN_LEASE_SECONDS <= int(text) <= MAX_LEASE_SECONDS:
        raise ValueError(f"must be a whole number from {MIN_LEASE_SECONDS} to {MAX_LEASE_SECONDS}, not {text!r}")
    return int(text)


def _kafka_timeout(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_KAFKA_TIMEOUT_SECONDS:
        raise ValueError(f"must be a whole number from 1 to {MAX_KAFKA_TIMEOUT_SECONDS}, not {text!r}")
    return int(text)


def _drain(text: str) -> timedelta:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_DRAIN_SECONDS:
        raise ValueError(f"must be a number of seconds from 0 to {MAX_DRAIN_SECONDS}, not {text!r}")
    return timedelta(seconds=seconds)
