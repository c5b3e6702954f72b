"""What every registry does, whatever stands behind it.

    Discoverer         discover, get_service, watch                      DNS, Kubernetes, environment variables, a file
    ServiceRegistry    the same, and register, update, deregister        waypost, etcd, the fake

A back end is bound to one namespace where it has namespaces at all. All methods wait for the registry and may be called
from any thread. They raise the errors of `waypost.errors`: InvalidInstance (correct the call), UnknownService and
UnknownInstance (check the name), NotSupported (ask another back end), RegistryUnavailable (use what is last known).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, TypeVar

from waypost.client.registry.feed import ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance

D = TypeVar("D", bound="Discoverer")


class Discoverer(ABC):
    """Finds instances."""

    @abstractmethod
    def get_service(self, service: str) -> ServiceSnapshot:
        """Return every known instance with its status, callable or not. Raises UnknownService."""

    def discover(self, service: str) -> tuple[Instance, ...]:
        """Return the instances that want requests, by id. Raises UnknownService when the service is not known at all;
        one that is known and has nobody to call is an empty answer."""
        return tuple(instance for _, instance in sorted(self.get_service(service).callable.items()))

    @abstractmethod
    def list_services(self) -> tuple[str, ...]:
        """Return the names of all services, in order. Raises NotSupported where nobody keeps such a list."""

    @abstractmethod
    def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> Watch:
        """Follow the callable instances of a service, which need not exist yet.

        Without `after` the first events add what is there now. With it, events go on from that snapshot; where the
        registry has not kept them, WatchPositionLost is raised here or by the first `poll`.
        """

    @abstractmethod
    def close(self) -> None:
        """End all watches, let go of connections. Closing twice is harmless."""

    def __enter__(self: D) -> D:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ServiceRegistry(Discoverer):
    """Finds instances, and takes registrations."""

    @abstractmethod
    def register(self, instance: Instance) -> None:
        """Register an instance, or replace its registration, and keep it registered until `deregister` or `close`.

        Returns when the registry has it. From then on it is kept alive in the background and registered again for ever
        when the registry has lost it. When this raises, nothing is kept: InvalidInstance, RegistryUnavailable,
        RegistrationRefused.
        """

    @abstractmethod
    def update(self, service: str, instance: str, **changes: Any) -> None:
        """Change single attributes: address, port, weight, zone, metadata, status. Raises UnknownInstance."""

    @abstractmethod
    def deregister(self, service: str, instance: str) -> None:
        """Remove an instance; one that is not there is removed already."""

    @abstractmethod
    def am_i_registered(self, service: str, instance: str) -> bool:
        """Tell whether the registry has the instance now. Raises RegistryUnavailable."""

    @abstractmethod
    def close(self) -> None:
        """Stop keeping instances registered, without deregistering them: their leases end by themselves."""
