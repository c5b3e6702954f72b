"""Where `scripts/setup.sh` put the jars from Maven Central.

The versions are those of `scripts/jars/pom.xml`; a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from waypost.errors import StackError

KAFKA_VERSION = "4.2.0"
FLINK_KAFKA_VERSION = "5.0.0-2.2"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of everything fetched once per version."""
    if environ.get("WAYPOST_CACHE"):
        return Path(environ["WAYPOST_CACHE"])
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "waypost"
    return Path(environ.get("HOME") or Path.home()) / ".cache" / "waypost"


def kafka_jars() -> Path:
    """Return the directory with the broker's jars; raises `StackError` when set-up has not run."""
    return _existing(cache_dir() / f"kafka-{KAFKA_VERSION}")


def flink_connector_jars() -> list[Path]:
    """Return the jars that make Flink's SQL read and write Kafka."""
    return sorted(_existing(cache_dir() / f"flink-connector-kafka-{FLINK_KAFKA_VERSION}").glob("*.jar"))


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise StackError(f"{directory} does not exist; run `make setup` (it fetches the jars)")
    return directory
