"""The witness: a steady empty record into every partition of the heartbeat topic.

Leases are counted on the log's own time. Without a witness a silent log is a stopped clock: nothing
expires, and the first record afterwards would end every lease at once. With it, the rows of each
second keep coming, and a second without them says that the log itself was away.

For a witness a record lost is better than a record late: a backlog delivered after an outage would
claim that the log had been alive. So little is buffered, nothing is retried, and what could not be
sent in its half second is never sent. Run two of them on different machines; they need not know each other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

log = logging.getLogger(__name__)

DEFAULT_SHARDS = 128
"""Must equal the job's `lease.shards`: the job waits for a row of each shard."""
PERIOD_S = 0.5
"""Twice a second: each tick of one second has a record of each shard even when one is lost."""
KEY_PREFIX = "_witness/"
VALUE = b"{}"
_REFRESH_S = 30.0
_REPORT_S = 60.0
_RECONNECT_S = 2.0
_TOO_OLD_MS = 1_000


class Producer(Protocol):
    """What the witness needs of a Kafka producer."""

    def partitions(self) -> Sequence[int]:
        """Return the topic's partitions as known now; empty when unknown."""

    def send(self, key: bytes, value: bytes, partition: int) -> None:
        """Hand one record over without waiting; raises `OSError` when that is impossible."""

    def lost(self) -> int:
        """Return how many records have not arrived so far."""

    def close(self) -> None: ...


def round_of_records(shards: int, partitions: Sequence[int], turn: int) -> Iterator[tuple[bytes, int]]:
    """Return one round: (key, partition) with each shard at least once and each partition at least once.

    The start moves with each turn, so that over time every shard visits every partition. With more
    partitions than shards the shards start over until each partition has its record.
    """
    count = max(shards, len(partitions))
    for i in range(count):
        yield f"{KEY_PREFIX}{i % shards}".encode(), partitions[(i + turn) % len(partitions)]


class Witness:
    """Sends a round each half second until stopped; never gives up, never catches up."""

    def __init__(
        self,
        *,
        connect: Callable[[], Producer],
        shards: int = DEFAULT_SHARDS,
        clock: Callable[[], float] = time.monotonic,
        stopped: threading.Event | None = None,
        on_round: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_round` is called after each round during which no record was found lost: a sign of life."""
        self._connect, self._shards, self._clock = connect, shards, clock
        self._stopped = stopped or threading.Event()
        self._on_round = on_round

    def stop(self) -> None:
        """End `run` soon; callable from a signal handler or another thread."""
        self._stopped.set()

    def run(self) -> None:
        """Send until `stop`."""
        turn = sent = lost_reported = lost_before = 0
        connected_before = False
        while not self._stopped.is_set():
            try:
                producer = self._connect()
            except OSError as error:
                log.warning("what=no-connection error=%r retry_s=%s", str(error), _RECONNECT_S)
                self._stopped.wait(_RECONNECT_S)
                continue
            log.info("what=%s shards=%d", "reconnected" if connected_before else "connected", self._shards)
            connected_before = True
            report_at = self._clock() + _REPORT_S
            try:
                next_round = self._clock()
                while not self._stopped.is_set():
                    now = self._clock()
                    # After a pause (a suspended laptop) go on from now: the rounds missed stay missed.
                    next_round = max(next_round + PERIOD_S, now)
                    partitions = producer.partitions()
                    if not partitions:
                        raise OSError("the topic's partitions are unknown")
                    for key, partition in round_of_records(self._shards, partitions, turn):
                        if self._clock() > next_round:  # a slow broker: what is left of this round is too late
                            log.warning("what=round-cut-short")
                            break
                        producer.send(key, VALUE, partition)
                        sent += 1
                    turn += 1
                    if now >= report_at:
                        report_at = now + _REPORT_S
                        lost = producer.lost()
                        log.info("what=sending sent=%d lost=%d partitions=%d", sent, lost, len(partitions))
                    if (lost := producer.lost()) > lost_reported + self._shards:
                        log.warning("what=losing lost=%d", lost)
                        lost_reported = lost
                    if lost == lost_before:
                        self._on_round()
                    lost_before = lost
                    self._stopped.wait(max(0.0, next_round - self._clock()))
            except OSError as error:
                log.warning("what=interrupted error=%r retry_s=%s", str(error), _RECONNECT_S)
                self._stopped.wait(_RECONNECT_S)
            finally:
                lost_reported = lost_before = 0
                with contextlib.suppress(OSError):
                    producer.close()
        log.info("what=stopped sent=%d", sent)


class KafkaProducerForWitness:
    """kafka-python's producer with the patience of a witness: none."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        self._topic = topic
        self._lost = 0
        self._partitions: tuple[int, ...] = ()
        self._kafka_error: type[Exception] = KafkaError
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap.split(","),
                client_id="waypost-witness",
                acks=1,
                retries=0,
                enable_idempotence=False,
                linger_ms=5,
                delivery_timeout_ms=_TOO_OLD_MS,
                request_timeout_ms=_TOO_OLD_MS - 100,
                # Metadata not known at once means Kafka is away: then this round is lost.
                max_block_ms=200,
                # New partitions get their first witness this soon; until then their clock stands still.
                metadata_max_age_ms=int(_REFRESH_S * 1000),
                reconnect_backoff_max_ms=2_000,
                bootstrap_timeout_ms=5_000,
                allow_auto_create_topics=False,
            )
        except KafkaError as error:
            raise OSError(str(error)) from error

    def partitions(self) -> Sequence[int]:
        # A look into the client's own table, which it renews every `metadata_max_age_ms`.
        try:
            self._partitions = tuple(sorted(self._producer.partitions_for(self._topic) or ()))
        except self._kafka_error as error:
            if not self._partitions:
                raise OSError(str(error)) from error
        return self._partitions

    def send(self, key: bytes, value: bytes, partition: int) -> None:
        try:
            future = self._producer.send(self._topic, key=key, value=value, partition=partition)
        except self._kafka_error:
            self._lost += 1
        else:
            future.add_errback(self._note_lost)

    def lost(self) -> int:
        return self._lost

    def close(self) -> None:
        self._producer.close(timeout=1)

    def _note_lost(self, error: Exception) -> None:
        self._lost += 1
