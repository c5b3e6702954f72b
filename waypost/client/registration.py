"""Keeps one instance registered for as long as its process runs, through any outage of Kafka.

    start() ─► register, until the log has it ─► beat, beat, beat … ─► drain() ─► beat … ─► leave() ─► deregister

A thread of its own registers and beats, so a program may start before Kafka does and never waits for it while it
works. A process that is killed says nothing any more: its lease ends it.

It does not watch the route table: "registered" means that the log has acknowledged it, not that gateways see it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from waypost.client.connection import Backoff
from waypost.client.event_sink import EventSink, MemorySink
from waypost.client.registrar import Registrar, Topics
from waypost.errors import RegistryUnavailable
from waypost.model.beats import Beat
from waypost.model.events import Attributes
from waypost.model.names import ServiceKey

_log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3
"""Two beats in a row may be lost. Twice as many would double the load of a fleet for little: what is lost three times
in a row is mostly an outage, and an outage of the log ends no lease."""

JITTER = (0.75, 0.95)
"""Which part of a third of the lease passes between two beats. Random, because a fleet that was started together must
not beat together; below one, because the acknowledgement of a beat takes its time too."""

NO_GRACE = timedelta(0)

Wait = Callable[[threading.Event, float], bool]
"""Wait for the event, this many seconds at most, and return whether it is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrant:
    """Who is kept registered, and with what."""

    service: ServiceKey
    instance: str
    attributes: Attributes
    source: str = "sdk"


class Registration:
    """See the module. Safe to share between threads; does not own the sink, which is closed by who made it.

    Raises DecodeError when it is made with anything the job would refuse: that would be refused for ever.
    """

    def __init__(
        self,
        sink: EventSink,
        registrant: Registrant,
        *,
        topics: Topics | None = None,
        backoff: Backoff | None = None,
        chance: random.Random | None = None,
        wait: Wait = threading.Event.wait,
    ) -> None:
        rehearsal = _registrar(MemorySink(), registrant, topics)
        rehearsal.register(registrant.service.service, registrant.instance, registrant.attributes)
        rehearsal.beat(registrant.instance, _beat(registrant))
        self._registrant = registrant
        self._registrar = _registrar(_Awaited(sink), registrant, topics)
        self._backoff = backoff or Backoff(first=timedelta(milliseconds=200))
        self._chance = chance or random.Random()
        self._wait = wait
        self._thread = threading.Thread(target=self._keep, name=f"registration of {registrant.instance}", daemon=True)
        # Held while an event is written: a late try to register must not follow the drain on the log.
        self._speaking = threading.Lock()
        self._going = threading.Lock()
        self._stopped = threading.Event()
        self._tried = False
        self._registered = False
        self._drained: bool | None = None
        self._gone: bool | None = None
        self._lost_beats = 0

    @property
    def is_registered(self) -> bool:
        """Whether the last word that the log acknowledged says so. True while draining, which is still registered."""
        return self._registered

    @property
    def lost_beats(self) -> int:
        """How many beats the log has not acknowledged; a metric."""
        return self._lost_beats

    def start(self) -> None:
        """Begin to register, and return at once. To be called once, when the instance can be called."""
        self._thread.start()

    def drain(self) -> bool:
        """Take the instance out of the table; it stays registered, beats, and should go on serving for a while.

        Return whether the log has it (or never heard of the instance). Returns within the sink's time limits; only the
        first call does anything.
        """
        with self._speaking:
            if self._drained is None:
                # A registration that was not acknowledged may be on the log all the same.
                self._drained = not self._tried or self._say("drain", self._registrar.drain)
                if not self._registered:
                    self._stopped.set()
            return self._drained

    def leave(self, grace: timedelta = NO_GRACE) -> bool:
        """Drain, serve on for `grace`, deregister. Return whether the log has it (or never heard of the instance).

        Only the first call does anything; a second one waits for the first. Returns within `grace` and the sink's time
        limits: when Kafka is away, the end of the lease does the rest. Nothing is said of an instance that never
        tried to register.
        """
        with self._going:
            if self._gone is None:
                self.drain()
                if self._tried:
                    self._wait(self._stopped, grace.total_seconds())
                self._stopped.set()
                if self._thread.is_alive():
                    self._thread.join()  # or a beat under way would arrive after the deregistration
                self._gone = not self._tried or self._say("deregister", self._registrar.deregister)
                self._registered = self._registered and not self._gone
            return self._gone

    def _keep(self) -> None:
        while not self._register():
            if self._wait(self._stopped, self._backoff.next().total_seconds()):
                return
        if not self._registered:
            return
        pause = self._third() * self._chance.random()
        while not self._wait(self._stopped, pause):
            self._beat()
            pause = self._third() * self._chance.uniform(*JITTER)

    def _register(self) -> bool:
        """Return whether there is nothing more to register."""
        who = self._registrant
        with self._speaking:
            if self._drained is not None:
                return True
            self._tried = True
            try:
                self._registrar.register(who.service.service, who.instance, who.attributes)
            except RegistryUnavailable as error:
                _log.warning("%s of %s is not registered yet, trying again: %s", who.instance, who.service, error)
                return False
            self._registered = True
        _log.info("%s of %s is registered, lease %d s", who.instance, who.service, who.attributes.lease_seconds)
        return True

    def _beat(self) -> None:
        who = self._registrant
        try:
            self._registrar.beat(who.instance, _beat(who))
        except RegistryUnavailable as error:
            self._lost_beats += 1
            _log.warning("a beat of %s of %s is lost, %d so far: %s", who.instance, who.service, self.lost_beats, error)

    def _say(self, what: str, say: Callable[[str, str], str]) -> bool:
        who = self._registrant
        try:
            say(who.service.service, who.instance)
        except RegistryUnavailable as error:
            _log.warning("%s could not %s from %s: %s", who.instance, what, who.service, error)
            return False
        return True

    def _third(self) -> float:
        return self._registrant.attributes.lease_seconds / BEATS_PER_LEASE


class _Awaited:
    """A sink that waits for beats too: our thread has nothing else to do, and so it learns which ones were lost."""

    def __init__(self, sink: EventSink) -> None:
        self.write = sink.write
        self.post = sink.write
        self.close = sink.close


def _registrar(sink: EventSink, registrant: Registrant, topics: Topics | None) -> Registrar:
    return Registrar(sink, namespace=registrant.service.namespace, source=registrant.source, topics=topics)


def _beat(registrant: Registrant) -> Beat:
    """Return a beat for this service alone: another service may have an instance of the same id, say a host's name."""
    return Beat(service=registrant.service.service, namespace=registrant.service.namespace)
