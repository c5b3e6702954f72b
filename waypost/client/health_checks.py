"""Looking whether instances answer, from where the caller is: TCP, HTTP, gRPC.

One failure is no verdict: three in a row make an instance unhealthy, two good ones make it healthy again. An instance
nobody has looked at yet is healthy: it has just been registered, and a caller that starts must be able to call.

What is found is this caller's alone and told to nobody; it cannot see whether the fault is the instance's or the way's.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from waypost.client.registry.instance import Instance
from waypost.errors import SettingsError

FAILS, PASSES = 3, 2
TIMEOUT = timedelta(seconds=2)
INTERVAL = timedelta(seconds=5)
AT_ONCE = 16
"""Probes under way together: 100 dead instances of 2 s each are then looked at within 13 s."""

_SERVING = 1


class Probe(Protocol):
    """One look at one instance."""

    def __call__(self, instance: Instance) -> bool:
        """Return whether it answers as it should; within the probe's time limit. Raises nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProbe:
    """Somebody accepts a connection."""

    timeout: timedelta = TIMEOUT

    def __call__(self, instance: Instance) -> bool:
        try:
            socket.create_connection((instance.address, instance.port), self.timeout.total_seconds()).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe:
    """A GET is answered with 200 to 299; a redirection says nothing about this instance."""

    path: str = "/healthz"
    timeout: timedelta = TIMEOUT

    def __call__(self, instance: Instance) -> bool:
        connection = http.client.HTTPConnection(instance.address, instance.port, timeout=self.timeout.total_seconds())
        try:
            connection.request("GET", self.path, headers={"Connection": "close"})
            return 200 <= connection.getresponse().status <= 299
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()


class GrpcProbe:
    """`grpc.health.v1.Health/Check` says SERVING. Needs grpcio."""

    def __init__(self, *, service: str = "", timeout: timedelta = TIMEOUT) -> None:
        try:
            import grpc
        except ImportError as error:
            raise SettingsError(f"gRPC health checks need grpcio: pip install grpcio ({error})") from error
        self._grpc = grpc
        self._timeout = timeout
        name = service.encode()
        if len(name) > 127:
            raise SettingsError("the name of a gRPC service to check has 127 bytes at most")
        # HealthCheckRequest{string service = 1}: one field, not worth generated code.
        self._request = b"\x0a" + bytes([len(name)]) + name if name else b""

    def __call__(self, instance: Instance) -> bool:
        host = f"[{instance.address}]" if ":" in instance.address else instance.address
        with self._grpc.insecure_channel(f"{host}:{instance.port}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                answer = check(self._request, timeout=self._timeout.total_seconds())
            except self._grpc.RpcError:
                return False
        # HealthCheckResponse{ServingStatus status = 1}; fields we do not know come after it.
        return isinstance(answer, bytes) and answer[:2] == bytes([0x08, _SERVING])


class Verdicts:
    """What many looks add up to. Safe to share between threads."""

    def __init__(self, *, fails: int = FAILS, passes: int = PASSES) -> None:
        self._fails = fails
        self._passes = passes
        self._lock = threading.Lock()
        self._runs: dict[str, int] = {}
        """Passes in a row above zero, failures in a row below."""
        self._unhealthy: frozenset[str] = frozenset()

    @property
    def unhealthy(self) -> frozenset[str]:
        """Return the ids of those that do not answer."""
        return self._unhealthy

    def note(self, instance: str, passed: bool) -> None:
        """Count one look."""
        with self._lock:
            before = self._runs.get(instance, 0)
            run = self._runs[instance] = max(before, 0) + 1 if passed else min(before, 0) - 1
            if run >= self._passes:
                self._unhealthy -= {instance}
            elif run <= -self._fails:
                self._unhealthy |= {instance}

    def keep(self, instances: Iterable[str]) -> None:
        """Forget everybody else: who comes back under an old id is new."""
        those = set(instances)
        with self._lock:
            self._runs = {id: run for id, run in self._runs.items() if id in those}
            self._unhealthy = frozenset(self._unhealthy & those)


class HealthChecker:
    """Looks at all instances again and again, in a thread of its own."""

    def __init__(
        self,
        instances: Callable[[], Iterable[Instance]],
        probe: Probe,
        *,
        interval: timedelta = INTERVAL,
        verdicts: Verdicts | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.verdicts = verdicts or Verdicts()
        self._instances = instances
        self._probe = probe
        self._interval = interval
        self._chance = chance or random.Random()
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")
        self._thread = threading.Thread(target=self._run, name="health checks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """Look at everybody once, and return when all have answered or not."""
        those = list(self._instances())
        self.verdicts.keep(each.id for each in those)
        for each, passed in zip(those, self._pool.map(self._probe, those), strict=True):
            self.verdicts.note(each.id, passed)

    def close(self) -> None:
        """Stop; returns when the looks under way have ended."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        # Not all callers at once, or every instance would be looked at by a hundred of them in the same moment.
        while not self._closed.wait(self._interval.total_seconds() * self._chance.uniform(0.5, 1.0)):
            self.look()
