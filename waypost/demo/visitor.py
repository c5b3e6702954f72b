"""The user of the show: `python -m waypost.demo.visitor PARENT_PID SETTINGS_JSON`.

It knows the address of the gateway and the names of services, and nothing of Redis or Kafka. It requests at a steady
rate over connections that are kept alive, as a browser or a load balancer before the gateway would, tries nothing
twice, and reports every request that failed. Whatever it takes to serve a request is the gateway's business.

Commands on standard input: `{"what": "visit", "service": name or null for all, "per_second": number}`.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from waypost.demo.lifeline import die_with
from waypost.demo.lines import Tell, teller
from waypost.model.names import DEFAULT_NAMESPACE

TIMEOUT_S = 10.0
_VISITORS = 12
"""Threads, each with a connection of its own."""
_TELL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the demo tells it."""

    gateway: str
    """`http://HOST:PORT`."""
    services: list[str]
    per_second: float
    seed: int


class RequestFailed(Exception):
    """One request failed; the message is a short reason."""


class Visitor:
    """Requests until told to stop. `once` may be called from any thread."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._chance = random.Random(settings.seed)
        self._services = settings.services
        self._per_second = settings.per_second
        self._open: set[str] = set()
        self._met: set[str] = set()
        self._made = 0
        self._lock = threading.Lock()
        self._local = threading.local()
        self._stopped = threading.Event()

    def visit(self, service: str | None, per_second: float) -> None:
        """From now on, request this service only, or all of them, this often."""
        with self._lock:
            self._services = [service] if service is not None else self._settings.services
            self._per_second = per_second

    def run(self) -> None:
        """A request that is late is made late, not left out."""
        due = last_told = time.monotonic()
        with ThreadPoolExecutor(_VISITORS) as visitors:
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                with self._lock:
                    service, pause = self._chance.choice(self._services), 1 / self._per_second
                due += pause
                visitors.submit(self.once, service)
                if time.monotonic() - last_told >= _TELL_S:
                    last_told = time.monotonic()
                    self._tell("visited", requests=self._made)
        self._tell("visited", requests=self._made)

    def stop(self) -> None:
        self._stopped.set()

    def once(self, service: str) -> None:
        """Make one request."""
        began = time.monotonic()
        try:
            instance = self._request(service)
        except RequestFailed as failure:
            # Before its first answer there is nothing to promise: the service may not be there yet.
            if service in self._open:
                with self._lock:
                    self._made += 1
                self._tell("visit-failed", began=began, service=service, reason=str(failure))
            return
        with self._lock:
            self._open.add(service)
            self._made += 1
            is_new = instance not in self._met
            self._met.add(instance)
        if is_new:
            self._tell("met", instance=instance)

    def _request(self, service: str) -> str:
        connection = self._connection()
        try:
            connection.request("GET", f"/{DEFAULT_NAMESPACE}/{service}/")
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise RequestFailed(f"status {response.status}")
            answer = json.loads(body)
            if answer["service"] != service:
                raise RequestFailed("answered by somebody else")
            return str(answer["instance"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            connection.close()  # and opened again by the next request
            raise RequestFailed(type(error).__name__) from error

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            address = self._settings.gateway.removeprefix("http://")
            self._local.connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        found: http.client.HTTPConnection = self._local.connection
        return found


def to_json(settings: Settings) -> str:
    """Return the settings as the command line takes them."""
    return json.dumps(asdict(settings))


def main(parent: int, settings: Settings) -> None:
    die_with(parent)
    visitor = Visitor(settings, teller(sys.stdout.fileno()))
    thread = threading.Thread(target=visitor.run)
    thread.start()
    for line in sys.stdin:
        command = json.loads(line)
        visitor.visit(command["service"], command["per_second"])
    visitor.stop()
    thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), Settings(**json.loads(sys.argv[2])))
