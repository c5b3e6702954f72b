"""The reader of the show: `python -m waypost.demo.caller PARENT_PID SETTINGS_JSON`.

It stands for any gateway. It knows of services only what Redis says (`RouteReader`: XREAD and hashes), calls their
endpoints at a steady rate, and reports when each change became visible to it and which calls failed.

A call that fails is tried once more, at another endpoint of the same table. Without that, calls to a process that was
killed and whose lease has not ended yet are lost, whatever the registry does.
"""

from __future__ import annotations

import http.client
import json
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta

from waypost.client.copies import EndpointEvent, EventKind
from waypost.client.pick import pick
from waypost.client.routes import RouteReader
from waypost.demo.lifeline import die_with
from waypost.demo.lines import Tell, teller
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey
from waypost.wire.endpoint import Endpoint

CALL_TIMEOUT_S = 5.0
_CALLERS = 8
"""Threads. A call takes a few ms; this many may hang in a timeout before the rate falls."""
_POLL = timedelta(milliseconds=100)
"""How late a revision is noticed that changed no endpoint; one that does wakes the reader at once."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the demo tells its reader."""

    redis_url: str
    services: list[str]
    calls_per_second: float
    seed: int


class CallFailed(Exception):
    """One call to one endpoint failed; the message is a short reason."""


Call = Callable[[ServiceKey, str, Endpoint], None]


def call(service: ServiceKey, instance: str, endpoint: Endpoint) -> None:
    """Call an endpoint and see that the right instance answers. Raises CallFailed."""
    connection = http.client.HTTPConnection(endpoint.address, endpoint.port, timeout=CALL_TIMEOUT_S)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise CallFailed(f"status {response.status}")
        answer = json.loads(body)
    except TimeoutError:
        raise CallFailed("timeout") from None
    except ConnectionRefusedError:
        raise CallFailed("connection refused") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CallFailed(type(error).__name__) from error
    finally:
        connection.close()
    if answer != {"service": service.service, "instance": instance}:
        raise CallFailed("answered by somebody else")


class Caller:
    """One call and its failover, by what the table says at that moment."""

    def __init__(self, table: Callable[[ServiceKey], Mapping[str, Endpoint]], tell: Tell, call: Call = call) -> None:
        self._table = table
        self._tell = tell
        self._call = call
        self._lock = threading.Lock()
        self._calls = 0

    def calls(self) -> int:
        """Return how many calls there were; retries are not counted."""
        return self._calls

    def once(self, service: ServiceKey, chance: random.Random) -> None:
        """Call the service, with one failover."""
        with self._lock:
            self._calls += 1
        tried: set[str] = set()
        for attempt in (1, 2):
            # Looked up anew: the failover sees a newer table than the first try, if there is one.
            endpoints = self._table(service)
            instance = pick(endpoints, chance, without=tried)
            try:
                if instance is None:
                    raise CallFailed("no endpoint in the table")
                self._call(service, instance, endpoints[instance])
                return
            except CallFailed as failure:
                self._tell(
                    "call-failed",
                    service=service.service,
                    instance=instance or "",
                    attempt=attempt,
                    reason=str(failure),
                )
            if instance is not None:
                tried.add(instance)


class Reader:
    """Follows Redis and calls, until told to stop."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._services = [ServiceKey(DEFAULT_NAMESPACE, name) for name in settings.services]
        self._reader = RouteReader(settings.redis_url)
        self._reader.watch(*self._services)
        self._caller = Caller(lambda service: self._reader.table(service).endpoints, tell)
        self._open: set[ServiceKey] = set()
        self._stopped = threading.Event()

    def follow(self) -> None:
        """Report every change as it becomes visible here."""
        revisions: dict[ServiceKey, int] = {}
        while not self._stopped.is_set():
            events = self._reader.poll(_POLL)
            now = {service: self._reader.table(service).revision for service in self._services}
            moved = {s.service: revision for s, revision in now.items() if revision != revisions.get(s, 0)}
            revisions = now
            if moved or events:
                self._tell("seen", revisions=moved, events=[_short(event) for event in events])
            # A service is called from its first endpoint on: before, there was nothing to promise.
            self._open.update(event.service for event in events if event.kind is EventKind.ADD)
        self._reader.close()

    def make_calls(self) -> None:
        """Call at the asked rate; a call that is late is made late, not left out."""
        pause = 1 / self._settings.calls_per_second
        chance = random.Random(self._settings.seed)
        due = time.monotonic()
        last_told = 0.0
        with ThreadPoolExecutor(_CALLERS) as callers:
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due += pause
                if services := sorted(self._open):
                    callers.submit(self._caller.once, chance.choice(services), random.Random(chance.random()))
                if time.monotonic() - last_told >= 1.0:
                    last_told = time.monotonic()
                    self._tell("called", calls=self._caller.calls())
        self._tell("called", calls=self._caller.calls())

    def stop(self) -> None:
        self._stopped.set()


def _short(event: EndpointEvent) -> dict[str, object]:
    endpoint = event.endpoint
    return {
        "kind": event.kind.value,
        "service": event.service.service,
        "instance": event.instance,
        "address": f"{endpoint.address}:{endpoint.port}",
        "weight": endpoint.weight,
    }


def to_json(settings: Settings) -> str:
    """Return the settings as the command line takes them."""
    return json.dumps(asdict(settings))


def main(parent: int, settings: Settings) -> None:
    die_with(parent)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    tell = teller(sys.stdout.fileno())
    reader = Reader(settings, tell)
    following = threading.Thread(target=reader.follow)
    calling = threading.Thread(target=reader.make_calls)
    following.start()
    calling.start()
    # Any command, and the end of the demo, ends the calls.
    sys.stdin.readline()
    reader.stop()
    calling.join()
    following.join()
    tell("ended", calls=0)


if __name__ == "__main__":
    main(int(sys.argv[1]), Settings(**json.loads(sys.argv[2])))
