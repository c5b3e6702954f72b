"""Names that are safe in a key, a log line and a URL."""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_NAMESPACE = "default"

# RFC 1123 label as Kubernetes uses it; a service name may be a dotted subdomain of at most 253 signs.
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
NAMESPACE_PATTERN = _LABEL
SERVICE_PATTERN = rf"{_LABEL}(?:\.{_LABEL})*"
INSTANCE_PATTERN = r"[A-Za-z0-9._:-]+"
MAX_NAME = 253
"""Characters of a service or instance."""

_NAMESPACE = re.compile(rf"{NAMESPACE_PATTERN}\Z")
_SERVICE = re.compile(rf"(?=.{{1,{MAX_NAME}}}\Z){SERVICE_PATTERN}\Z")
_INSTANCE = re.compile(rf"(?=.{{1,{MAX_NAME}}}\Z){INSTANCE_PATTERN}\Z")


def is_namespace(name: str) -> bool:
    """Tell whether `name` is an RFC 1123 label."""
    return _NAMESPACE.match(name) is not None


def is_service(name: str) -> bool:
    """Tell whether `name` is an RFC 1123 subdomain."""
    return _SERVICE.match(name) is not None


def is_instance(name: str) -> bool:
    """Tell whether `name` is an instance id: 1 to 253 of `A-Z a-z 0-9 . _ : -`."""
    return _INSTANCE.match(name) is not None


class ServiceKey(NamedTuple):
    """A service within its namespace; written `namespace/service` on topics and in Redis."""

    namespace: str
    service: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}"

    @classmethod
    def parse(cls, text: str) -> ServiceKey:
        """Read what `str()` wrote. Raises ValueError when there is no slash."""
        namespace, slash, service = text.partition("/")
        if not slash:
            raise ValueError(f"not a service key: {text!r}")
        return cls(namespace, service)
