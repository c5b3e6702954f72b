"""Which registry a command means: Waypost's own, from options or the local stack, or another one by its URL."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from waypost.cli.options import kafka_address, redis_address
from waypost.client.event_sink import EventSink
from waypost.client.registry.interface import Discoverer, ServiceRegistry
from waypost.client.registry.opening import open_discoverer, open_registry
from waypost.errors import RegistryUnavailable

WAYPOST = "waypost"


class _NoLog:
    """The log of somebody who only reads."""

    def write(self, topic: str, key: bytes, value: bytes) -> None:
        raise RegistryUnavailable("this command only reads")

    post = write

    def close(self) -> None:
        pass


def for_reading(url: str, *, namespace: str, redis: str | None, state_dir: Path) -> Discoverer:
    """Return the registry to look into. Raises SettingsError, StackError."""
    return _waypost(_NoLog(), redis, namespace, state_dir, None) if url == WAYPOST else open_discoverer(url)


def for_writing(
    url: str, *, namespace: str, kafka: str | None, redis: str | None, state_dir: Path, lease: timedelta | None
) -> ServiceRegistry:
    """Return the registry to write to. Raises SettingsError, StackError, NotSupported."""
    if url != WAYPOST:
        return open_registry(url, lease=lease)
    return _waypost(kafka_address(kafka, state_dir), redis, namespace, state_dir, lease)


def _waypost(
    kafka: EventSink | str, redis: str | None, namespace: str, state_dir: Path, lease: timedelta | None
) -> ServiceRegistry:
    from waypost.client.registry.log_and_tables import LEASE, WaypostRegistry

    address = redis_address(redis, state_dir)
    return WaypostRegistry(kafka, address, namespace=namespace, source="cli", lease=lease or LEASE)
