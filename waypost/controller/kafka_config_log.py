"""The log of a syncer in Kafka: one transaction per write, under one transactional id.

A transactional id is what fences: `init_transactions` ends whatever an older producer with the same id left open, and
every later call of that one fails. It is made of topic and source, so two syncers of one source can never both write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from waypost.client.config_feed import ConfigFeed, KafkaFeed
from waypost.controller.config_log import Observed, observe
from waypost.errors import FencedError, RegistryUnavailable
from waypost.model.change_sets import ChangeSet
from waypost.wire.config import encode_change_set

TIMEOUT_S = 10.0
"""For one answer of Kafka, longer than an election of a partition leader usually takes."""
TRANSACTION_S = 15.0
"""After it the broker aborts what a syncer left open. Readers wait for that, unless a successor comes sooner."""

BATCH_BYTES = 512 * 1024
"""Half of what every broker accepts as one batch; a larger record is a batch of its own."""

_FENCED = ("ProducerFencedError", "InvalidProducerEpochError")


def _kafka_producer(**settings: Any) -> Any:
    from kafka import KafkaProducer  # a third of a second; `waypost --help` should not pay it

    return KafkaProducer(**settings)


class KafkaConfigLog:
    """See the module; a `ConfigLog`. It connects when it takes over."""

    def __init__(
        self,
        bootstrap: str,
        topic: str = "service-config",
        *,
        source: str,
        make_producer: Callable[..., Any] = _kafka_producer,
        make_feed: Callable[[str, str], ConfigFeed] = KafkaFeed,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._source = source
        self._make_producer = make_producer
        self._make_feed = make_feed
        self._producer: Any = None

    @property
    def transactional_id(self) -> str:
        """One per topic and source: who has the same one fences us."""
        return f"waypost-config-sync-{self._topic}-{self._source}"

    def take_over(self) -> Observed:
        self.close()
        with _Translated(self._bootstrap, "did not let us take over"):
            timeout_ms = int(TIMEOUT_S * 1000)
            self._producer = self._make_producer(
                bootstrap_servers=self._bootstrap.split(","),
                client_id="waypost-config-sync",
                transactional_id=self.transactional_id,
                transaction_timeout_ms=int(TRANSACTION_S * 1000),
                acks="all",
                enable_idempotence=True,
                # A change set leaves whole and at once: nothing else comes that it could wait for.
                linger_ms=0,
                # The usual 16 KiB would make hundreds of requests of a large one, and a busy broker too late for it.
                batch_size=BATCH_BYTES,
                max_block_ms=timeout_ms,
                delivery_timeout_ms=timeout_ms,
                request_timeout_ms=timeout_ms - 1,
                bootstrap_timeout_ms=timeout_ms,
                # A record is at most 1 MiB; this is about a record with its overhead.
                max_request_size=1_048_588,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
            )
            self._producer.init_transactions()
        feed = self._make_feed(self._bootstrap, self._topic)
        try:
            return observe(feed)
        finally:
            feed.close()

    def write(self, change_sets: Sequence[ChangeSet]) -> None:
        if self._producer is None:
            raise RegistryUnavailable("this log was not taken over")
        producer = self._producer
        with _Translated(self._bootstrap, "did not commit a change set"):
            producer.begin_transaction()
            sent = [
                producer.send(self._topic, key=key, value=value, headers=headers)
                for one in change_sets
                for key, value, headers in encode_change_set(one, self._source)
            ]
            producer.commit_transaction()
            for future in sent:
                future.get(timeout=0)  # committed, so each has an answer

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            from kafka.errors import KafkaError

            # It waits only for records that are under way, and none of those is waited for longer than this.
            with contextlib.suppress(KafkaError):
                producer.close(timeout=TIMEOUT_S + 1)


class _Translated:
    """Errors of Kafka as ours: who has to act."""

    def __init__(self, bootstrap: str, what: str) -> None:
        self._bootstrap = bootstrap
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if _is_fenced(error):
            raise FencedError("a newer syncer with the same source writes these configurations now") from error
        raise RegistryUnavailable(
            f"Kafka at {self._bootstrap} {self._what}: {type(error).__name__} {error}".rstrip()
        ) from error  # fmt: skip


def _is_fenced(error: BaseException) -> bool:
    """Once a producer has failed, every call of it fails with a text that names the first error."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in _FENCED or any(name in str(seen) for name in _FENCED):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
