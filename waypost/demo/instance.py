"""One instance of the fleet: a small HTTP server that registers, beats, drains and deregisters through Kafka.

It knows the log and nothing else of the registry, as an application would. Its life:

    listen ─► register ─► beat, beat … ─► [LEAVE] drain ─► serve until idle for `grace_s` ─► stop ─► deregister

Signals are its only controls, taken by `sigtimedwait` between two beats, so no handler ever interrupts anything.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn

from waypost.client.event_sink import KafkaSink
from waypost.client.registrar import Registrar
from waypost.demo.lines import Tell
from waypost.errors import RegistryUnavailable
from waypost.model.beats import Beat
from waypost.model.events import Attributes
from waypost.model.lifecycle import Health

LOOPBACK = "127.0.0.1"
SOURCE = "demo"
"""Under which the demo registers."""
MARK = {"demo": "1"}
"""Metadata of the demo's instances: what a later demo may clean up."""

LEAVE = signal.SIGTERM
SILENCE = signal.SIGUSR1
"""Stop beating and go on serving."""
SPEAK = signal.SIGUSR2
"""Beat again."""
FLAP = signal.SIGHUP
"""Report the opposite health with each beat for a while, many times a second."""
FLAP_EVERY_S = 0.13
"""No divisor of the job's tick of a second: otherwise every tick might end with the same report."""
LONGEST_GRACE_S = 30.0
"""After this it stops even if somebody still calls."""
CONTROLS = (LEAVE, SILENCE, SPEAK, FLAP)

_NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Who an instance is and how it behaves."""

    service: str
    instance: str
    bootstrap: str
    lease_s: int
    beat_s: float
    grace_s: float
    """How long it serves on after it has drained and was called last: longer than a reader needs to hear of it."""
    flap_s: float
    zone: str
    seed: int

    def attributes(self, address: str, port: int) -> Attributes:
        """Return what it registers with."""
        return Attributes(address=address, port=port, zone=self.zone, metadata=MARK, lease_seconds=self.lease_s)


def flap_reports(seconds: float) -> int:
    """Return how many reports a flapping instance makes: an even number, so that the last one is a pass."""
    return 2 * round(seconds / FLAP_EVERY_S / 2)


class Instance:
    """See the module. `run` returns when the instance has left."""

    def __init__(self, spec: Spec, tell: Tell) -> None:
        self._spec = spec
        self._tell = tell
        self._random = random.Random(spec.seed)
        self._sink = KafkaSink(spec.bootstrap, client_id=spec.instance)
        self._registrar = Registrar(self._sink, source=SOURCE)
        self._next_beat = 0.0
        self._flaps_left = 0

    def run(self) -> None:
        # Before any thread exists: threads inherit the mask, and a signal must find only `sigtimedwait`.
        signal.pthread_sigmask(signal.SIG_BLOCK, CONTROLS)
        spec = self._spec
        server = _server(spec)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.25}, daemon=True).start()
        port = int(server.server_address[1])
        attributes = spec.attributes(LOOPBACK, port)
        if self._register(attributes):
            self._tell("registered", instance=spec.instance, service=spec.service, port=port)
            self._beat_until_told_to_leave()
        self._leave(server)

    def _register(self, attributes: Attributes) -> bool:
        """Register, however long it takes; False when told to leave meanwhile. Doing it twice is harmless."""
        while True:
            try:
                self._registrar.register(self._spec.service, self._spec.instance, attributes)
                return True
            except RegistryUnavailable as error:
                _complain(self._spec, error)
            if signal.sigtimedwait((LEAVE,), self._random.random()) is not None:
                return False

    def _beat_until_told_to_leave(self) -> None:
        # The first beat at random: a fleet that was started together must not beat together.
        self._next_beat = time.monotonic() + self._random.random() * self._spec.beat_s
        while True:
            pause = self._next_beat - time.monotonic()
            # `inf` is no time for the kernel.
            info = signal.sigtimedwait(CONTROLS, min(max(pause, 0.0), 3600.0))
            order = info.si_signo if info is not None else None
            if order == LEAVE:
                return
            if order == SILENCE:
                self._next_beat = _NEVER
            elif order == SPEAK:
                self._next_beat = 0.0
            elif order == FLAP:
                self._flaps_left = flap_reports(self._spec.flap_s)
                self._next_beat = 0.0
            elif time.monotonic() >= self._next_beat:
                self._beat()

    def _beat(self) -> None:
        health: Health | None = None
        pause = self._spec.beat_s * self._random.uniform(0.8, 1.2)
        if self._flaps_left:
            health = Health.PASS if self._flaps_left % 2 else Health.FAIL
            self._flaps_left -= 1
            pause = FLAP_EVERY_S if self._flaps_left else pause
        beat = Beat(cpu=round(self._random.uniform(0.05, 0.95), 2), health=health)
        before = time.monotonic()  # the log has it later than this, so a lease seems rather longer than it was
        try:
            self._registrar.beat(self._spec.instance, beat)
        except RegistryUnavailable as error:
            _complain(self._spec, error)  # the next beat tries again
        else:
            self._tell("beat", at=before, instance=self._spec.instance)
        self._next_beat = time.monotonic() + pause

    def _leave(self, server: _Server) -> None:
        spec = self._spec
        self._tell("leaving", instance=spec.instance)
        try:
            self._registrar.drain(spec.service, spec.instance)
            # Readers hear of it meanwhile; calls still arrive and are served. Impatience is another LEAVE.
            longest = time.monotonic() + LONGEST_GRACE_S
            server.called = time.monotonic()
            while (left := min(server.called + spec.grace_s, longest) - time.monotonic()) > 0:
                if signal.sigtimedwait((LEAVE,), left) is not None:
                    break
        except RegistryUnavailable as error:
            _complain(spec, error)
        self._tell("stopping", instance=spec.instance)
        server.shutdown()
        server.server_close()  # waits for calls under way
        try:
            self._registrar.deregister(spec.service, spec.instance)
            self._registrar.close()
        except RegistryUnavailable as error:
            _complain(spec, error)
        self._tell("left", instance=spec.instance, lost_beats=self._sink.lost)


class _Server(ThreadingMixIn, TCPServer):
    """Not `http.server.HTTPServer`, which asks DNS for its own name when it starts."""

    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64
    called = 0.0
    """When somebody called last, monotonic seconds."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hung up is the caller's affair."""


def _server(spec: Spec) -> _Server:
    body = json.dumps({"service": spec.service, "instance": spec.instance}).encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            server.called = time.monotonic()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _Server((LOOPBACK, 0), Handler)
    return server


def _complain(spec: Spec, error: Exception) -> None:
    print(f"{spec.instance}: {error}", file=sys.stderr, flush=True)
