"""Services from environment variables, as Kubernetes and Docker links write them.

`REDIS_SERVICE_HOST` and `REDIS_SERVICE_PORT` say where the service `redis` is: one instance, usually a virtual address.
A dash or a dot of a service's name is an underscore there, so `list_services` can only guess a dash.

A process's environment does not change, so a watch tells what is there and stays silent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta

from waypost.client.registry.instance import Instance, checked
from waypost.client.registry.polled import PolledDiscoverer
from waypost.errors import InvalidInstance, RegistryUnavailable
from waypost.model.names import is_service

LOOK = timedelta(milliseconds=500)

_HOST = re.compile(r"([A-Z0-9_]+)_SERVICE_HOST\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")


class EnvironmentVariables(PolledDiscoverer):
    """See the module. `environ` is read anew each time."""

    where = "the environment"

    def __init__(self, environ: Mapping[str, str] | None = None, **clock: Callable[[], int]) -> None:
        super().__init__(**clock)
        self._environ = os.environ if environ is None else environ

    @property
    def retry(self) -> timedelta:
        return LOOK

    def ask(self, service: str) -> tuple[Mapping[str, Instance] | None, timedelta]:
        stem = re.sub("[-.]", "_", service).upper()
        host, port = self._environ.get(f"{stem}_SERVICE_HOST"), self._environ.get(f"{stem}_SERVICE_PORT")
        if host is None:
            return None, LOOK
        if port is None or not _PORT.match(port):
            raise RegistryUnavailable(f"{stem}_SERVICE_HOST is set, but {stem}_SERVICE_PORT is not a port: {port!r}")
        try:
            found = checked(Instance(id=f"{host}:{port}", name=service, address=host, port=int(port)))
        except InvalidInstance as error:
            raise RegistryUnavailable(f"{stem}_SERVICE_HOST and _PORT: {error}") from error
        return {found.id: found}, LOOK

    def list_services(self) -> tuple[str, ...]:
        found = (_HOST.match(name) for name in self._environ)
        names = {match[1].lower().replace("_", "-") for match in found if match is not None}
        return tuple(sorted(filter(is_service, names)))
