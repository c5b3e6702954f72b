"""Registrations that come and go at random all the time, and what the tables have to be after them.

The services are the churn's own and their leases are a day, so that the log alone says what is routable: it is read
back from Kafka, told by the slow model of `tests.model.oracle`, and compared with every hash in Redis.
"""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from tests.e2e.chaos.posting import Posting
from tests.e2e.log_writer import REGISTRY
from tests.e2e.tables import Tables
from tests.model.oracle import told
from waypost.model.events import InstanceEvent, SetEvent
from waypost.model.lifecycle import Lease, is_routable
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.registry import decode_registration

SERVICES = 10
INSTANCES = 12
PER_SECOND = 20.0
DAY_S = 86_400
Table = dict[str, tuple[str, int]]


class Churn:
    """Writes from `begin` to `end`: a round, which has services of its own."""

    def __init__(self, bootstrap: str, random: Random) -> None:
        self._bootstrap, self._random = bootstrap, random
        self._posting = Posting(bootstrap)
        self._reader = _LogReader(bootstrap)
        self._running, self._stopped = threading.Event(), threading.Event()
        self._turn, self._updates = 0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Begin a round: write to new services until `end`."""
        self._turn += 1
        self._running.set()

    def end(self, timeout_s: float) -> None:
        """Stop writing, and return when the log has everything."""
        self._running.clear()
        self._posting.flush(timeout_s)

    def wanted(self) -> dict[str, Table]:
        """Return the tables of every round as the log means them."""
        return self._reader.tables()

    def found(self, tables: Tables) -> dict[str, Table]:
        return {service: tables.endpoints(service) for service in self._reader.tables()}

    def close(self) -> None:
        self._stopped.set()
        self._running.set()
        self._thread.join(30)
        self._posting.close()
        self._reader.close()

    def _run(self) -> None:
        while not self._stopped.wait(1 / PER_SECOND):
            if self._running.is_set():
                self._posting.event(f"churn-{self._turn}-{self._random.randrange(SERVICES)}", **self._event())

    def _event(self) -> dict[str, Any]:
        chance, number = self._random, self._random.randrange(INSTANCES)
        if chance.random() < 0.15:
            self._updates += 1
            endpoints = [f"10.9.0.{n}:80" for n in range(4) if chance.random() < 0.7]
            return {"endpoints": endpoints, "last_updated": self._updates, "source": f"set-{chance.randrange(2)}"}
        op = chance.choices(["register", "update", "status", "drain", "deregister"], [6, 3, 2, 1, 2])[0]
        event: dict[str, Any] = {"op": op, "instance": f"i-{number}"}
        if op == "register":
            event |= {"address": "10.1.2.3", "port": chance.randrange(1, 60_000), "lease_seconds": DAY_S}
        elif op == "update":
            event |= {"port": chance.randrange(1, 60_000)}
        elif op == "status":
            event |= {"status": chance.choice(["UP", "UP", "OUT_OF_SERVICE", "DOWN"])}
        return event


class _LogReader:
    """The churn's records, read from the broker as they come, and the tables of the services they are about."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
        self._events: dict[ServiceKey, list[InstanceEvent | SetEvent]] = {}
        self._tables: dict[str, Table] = {}

    def tables(self) -> dict[str, Table]:
        for service in self._read():
            known = told(self._events[service]).known().get(service, {})
            self._tables[service.service] = {
                instance: (k.attributes.address, k.attributes.port)
                for instance, k in known.items()
                if is_routable(k.declared, k.health, k.lease or Lease.LIVE)
            }
        return dict(self._tables)

    def _read(self) -> set[ServiceKey]:
        """Read up to the end of the log; return the services of which there was something new."""
        partitions = [TopicPartition(REGISTRY, p) for p in sorted(self._consumer.partitions_for_topic(REGISTRY) or ())]
        if set(partitions) != self._consumer.assignment():
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning(*partitions)
        ends, new = self._consumer.end_offsets(partitions), set()
        heard = time.monotonic()  # After a hostile flood a log has hundreds of MB.
        while any(self._consumer.position(p) < ends[p] for p in partitions):
            assert time.monotonic() < heard + 60, "the log cannot be read"
            for records in self._consumer.poll(timeout_ms=200).values():
                heard = time.monotonic()
                for record in records:
                    if (record.key or b"").startswith(b"default/churn-"):
                        event = decode_registration(
                            record.value, Stamp(record.timestamp, record.partition, record.offset)
                        )
                        self._events.setdefault(event.service, []).append(event)
                        new.add(event.service)
        return new

    def close(self) -> None:
        self._consumer.close()
