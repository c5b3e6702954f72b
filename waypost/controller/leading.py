"""One syncer at a time, by a Lease: the others wait, ready to go on within seconds.

It keeps two running syncers calm. It is not what makes writing safe: that is the transactional id, which also stops a
leader that slept through the end of its lease. The election is the official client's; added here are that a network
error is a failed try instead of the end, and that a leader who leaves gives the lease back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

from kubernetes import client
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from urllib3.exceptions import HTTPError

LEASE_S = 15
RENEW_S = 10
RETRY_S = 2
"""The three of kube-controller-manager."""

# It tells of every renewal.
logging.getLogger("leaderelection").setLevel(logging.WARNING)


class _Lock(LeaseLock):
    def __init__(self, api: Any, namespace: str, name: str, identity: str) -> None:
        super().__init__(name, namespace, identity)  # type: ignore[no-untyped-call]
        self.api_instance = client.CoordinationV1Api(api)

    def get(self, name: str, namespace: str) -> Any:
        try:
            return super().get(name, namespace)  # type: ignore[no-untyped-call]
        except (HTTPError, OSError) as error:
            return False, client.ApiException(status=0, reason=type(error).__name__)

    def create(self, name: str, namespace: str, election_record: Any) -> Any:
        try:
            return super().create(name, namespace, election_record)  # type: ignore[no-untyped-call]
        except (HTTPError, OSError):
            return False

    def update(self, name: str, namespace: str, updated_record: Any) -> Any:
        try:
            return super().update(name, namespace, updated_record)  # type: ignore[no-untyped-call]
        except (HTTPError, OSError):
            return False


class Leading:
    """Takes part in the election on a thread of its own. `changed` is notified when one of the two is set."""

    def __init__(self, api: Any, namespace: str, name: str, identity: str, changed: threading.Event) -> None:
        self._lock = _Lock(api, namespace, name, identity)
        self._changed = changed
        self.is_leader = threading.Event()
        self.is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader election", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give_back(self) -> None:
        """Let the next one begin at once; for a leader that ends, right before its process does."""
        if not self.is_leader.is_set() or self.is_over.is_set():
            return
        with contextlib.suppress(client.ApiException, HTTPError, OSError):
            found, _ = self._lock.get(self._lock.name, self._lock.namespace)
            lease: Any = self._lock.lease_reference
            if found and lease.spec.holder_identity == self._lock.identity:
                lease.spec.holder_identity = None
                self._lock.api_instance.replace_namespaced_lease(self._lock.name, self._lock.namespace, lease)

    def _run(self) -> None:
        settings = electionconfig.Config(  # type: ignore[no-untyped-call]
            self._lock,
            lease_duration=LEASE_S,
            renew_deadline=RENEW_S,
            retry_period=RETRY_S,
            onstarted_leading=self._started,
            onstopped_leading=lambda: None,
        )
        try:
            leaderelection.LeaderElection(settings).run()  # type: ignore[no-untyped-call]
        finally:
            self.is_over.set()
            self._changed.set()

    def _started(self) -> None:
        self.is_leader.set()
        self._changed.set()
