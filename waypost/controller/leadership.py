"""Which of several controllers works: the one that holds a Lease of the API server.

It is a matter of economy and of rolling updates, not of safety: every act of a pass is the same for all controllers of
one version, and applied under one field manager. Two versions at once would undo each other's work for a moment; the
Lease is what keeps that from happening for longer than it lasts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import urllib3
from kubernetes.client import ApiClient, CoordinationV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

LEASE_NAME = "waypost-controller"
LEASE_S = 15
"""How long a dead leader is waited for. The defaults of Kubernetes' own controllers: 15, 10, 2."""
RENEW_S = 10
"""When the leader gives up, which is before anybody else takes over."""
RETRY_S = 2

_log = logging.getLogger(__name__)


def lead(client: ApiClient, namespace: str, identity: str, work: Callable[[], None]) -> None:
    """Wait until this process leads, then run `work` in a thread; return when it does not lead any more.

    Whoever calls this ends the process then: `work` may still be in the middle of something. An API server that does
    not answer is waited for.
    """
    logging.getLogger("leaderelection").setLevel(logging.WARNING)  # it tells of every renewal
    _log.info("%s waits for the lease %s/%s", identity, namespace, LEASE_NAME)

    def begin() -> None:
        _log.info("%s leads", identity)
        work()

    config = electionconfig.Config(  # type: ignore[no-untyped-call]
        _Lock(client, namespace, identity),
        lease_duration=LEASE_S,
        renew_deadline=RENEW_S,
        retry_period=RETRY_S,
        onstarted_leading=begin,
        onstopped_leading=lambda: _log.warning("%s leads no more", identity),
    )
    leaderelection.LeaderElection(config).run()  # type: ignore[no-untyped-call]


class _Lock(LeaseLock):
    """The library's, on our client, with calls that end: its own wait for ever and let a lost connection through."""

    def __init__(self, client: ApiClient, namespace: str, identity: str) -> None:
        super().__init__(LEASE_NAME, namespace, identity)  # type: ignore[no-untyped-call]
        self.api_instance: Any = _Bounded(CoordinationV1Api(client))


class _Bounded:
    """The three calls of the lock, each over within the retry period; what fails is an `ApiException`."""

    def __init__(self, api: CoordinationV1Api) -> None:
        self._api = api

    def read_namespaced_lease(self, name: str, namespace: str) -> Any:
        return self._within(self._api.read_namespaced_lease, name, namespace)

    def create_namespaced_lease(self, namespace: str, body: Any) -> Any:
        return self._within(self._api.create_namespaced_lease, namespace, body)

    def replace_namespaced_lease(self, name: str, namespace: str, body: Any) -> Any:
        return self._within(self._api.replace_namespaced_lease, name, namespace, body)

    def _within(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments, _request_timeout=RETRY_S)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiException(status=0, reason=type(error).__name__) from error
