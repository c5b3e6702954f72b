"""By which host and path a service is reached through a gateway.

Both are templates over the names of a service, checked when the process starts. Names are checked once more before
they are put in: they come from Redis, and a rule is a small program to Traefik.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from waypost.errors import SettingsError
from waypost.model.names import ServiceKey, is_namespace, is_service

DEFAULT_HOST = "{service}.{namespace}.waypost"
DEFAULT_PATH = "/{namespace}/{service}/"

_NAME = re.compile(r"\{(service|namespace)\}")
_HOST = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which services a gateway serves, and where. An empty template: not by that. Raises SettingsError when made.

    `namespaces` empty: all of them. A template must tell services apart, so one without `{namespace}` is for one
    namespace only.
    """

    host: str = DEFAULT_HOST
    path: str = DEFAULT_PATH
    namespaces: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.host and not self.path:
            raise SettingsError("a service needs a host or a path to be reached by; both templates are empty")
        for namespace in self.namespaces:
            if not is_namespace(namespace):
                raise SettingsError(f"{namespace!r} is not a namespace (a-z 0-9 -)")
        self._check("host", self.host, _HOST, "a DNS name such as {service}.example.org")
        self._check("path", self.path, _PATH, "a path from slash to slash such as /api/{service}/")

    def _check(self, what: str, template: str, pattern: re.Pattern[str], like: str) -> None:
        if not template:
            return
        if not pattern.match(_NAME.sub("x", template)):
            raise SettingsError(f"the {what} template {template!r} must be {like}, with no other names in braces")
        if "{service}" not in template:
            raise SettingsError(f"the {what} template {template!r} must name {{service}}, or all would share it")
        if "{namespace}" not in template and len(self.namespaces) != 1:
            raise SettingsError(
                f"the {what} template {template!r} does not name {{namespace}}; say which one namespace it is for"
            )

    def accepts(self, service: ServiceKey) -> bool:
        """Tell whether this service is served at all. One whose name is not a name never is."""
        if not is_namespace(service.namespace) or not is_service(service.service):
            return False
        return not self.namespaces or service.namespace in self.namespaces

    def host_of(self, service: ServiceKey) -> str | None:
        """Return the host name that means this service, None when there is none."""
        return _fill(self.host, service) if self.host else None

    def prefix_of(self, service: ServiceKey) -> str | None:
        """Return the path prefix that means this service, without its last slash, None when there is none."""
        return _fill(self.path, service)[:-1] if self.path else None


def _fill(template: str, service: ServiceKey) -> str:
    names = service._asdict()
    return _NAME.sub(lambda found: str(names[found[1]]), template)
