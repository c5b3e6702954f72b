"""What became of a request: a registration event that carries a `request_id` is answered in the `changes` stream.

The place in the stream is taken before the request is published, so the answer cannot be missed however fast it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import timedelta

import redis
from redis.exceptions import RedisError

from waypost.client.connection import Backoff, connect
from waypost.client.follow import ChangeStream
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.model.names import ServiceKey
from waypost.wire.changes import RouteChange, decode_change

_BLOCK_MS = 250
_TIMEOUT = timedelta(seconds=2)
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Answered:
    """The route job has folded the record. From `revision` on the table shows it, if it changed anything."""

    applied: bool
    reason: str
    revision: int
    service: ServiceKey


class AnswerWaiter:
    """Waits for answers published after it was made. Not thread-safe. Use as a context manager, or close it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis = client
        self._stream = ChangeStream(client, keys)
        self._seen: dict[str, dict[ServiceKey, Answered]] = {}
        try:
            self._stream.seek_end()
        except (RedisError, OSError) as error:
            raise RegistryUnavailable(f"reading the end of {keys.changes}: {error}") from error

    def wait(self, request_id: str, timeout_s: float) -> Answered | None:
        """Return the answer, None when there is none in time. Answers to other requests are kept for later calls.

        Raises RegistryUnavailable when the time ends while Redis cannot be reached.
        """
        return next(iter(self._wait(request_id, timeout_s, bool).values()), None)

    def wait_for_all(self, request_id: str, services: Set[ServiceKey], timeout_s: float) -> dict[ServiceKey, Answered]:
        """Return the answers of these services to one request, and of others that answered meanwhile; those that are
        not in it did not answer in time.

        Raises RegistryUnavailable when the time ends while Redis cannot be reached.
        """
        return self._wait(request_id, timeout_s, lambda found: services <= found.keys())

    def _wait(
        self, request_id: str, timeout_s: float, is_enough: Callable[[dict[ServiceKey, Answered]], bool]
    ) -> dict[ServiceKey, Answered]:
        deadline = time.monotonic() + timeout_s
        backoff = Backoff(ceiling=timedelta(milliseconds=500))
        failure: RedisError | OSError | None = None
        while not is_enough(self._seen.get(request_id, {})):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                if failure is not None:
                    raise RegistryUnavailable(f"waiting for the answer to {request_id}: {failure}") from failure
                break
            try:
                entries, _ = self._stream.read(int(min(_BLOCK_MS, remaining * 1000)))
            except (RedisError, OSError) as error:
                failure = error
                time.sleep(min(backoff.next().total_seconds(), remaining))
                continue
            failure = None
            backoff.reset()
            for fields in entries:
                self._keep(fields)
        return self._seen.pop(request_id, {})

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()

    def __enter__(self) -> AnswerWaiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, fields: dict[str, str]) -> None:
        if fields.get("answers", "[]") == "[]":
            return
        try:
            change: RouteChange = decode_change(fields)
        except DecodeError:
            return  # written by something newer than we are: no answer is better than a wrong one
        for answer in change.answers:
            # A replay answers again, with the verdict on a record that is folded already; the first one counts.
            self._seen.setdefault(answer.request_id, {}).setdefault(
                change.service, Answered(answer.applied, answer.reason, change.revision, change.service)
            )
        while len(self._seen) > _KEPT:
            del self._seen[next(iter(self._seen))]


def open_answers(redis_url: str, *, prefix: str = DEFAULT_PREFIX) -> AnswerWaiter:
    """Take the place in the stream from which to wait; call it before the request is published.

    Raises RegistryUnavailable.
    """
    return AnswerWaiter(connect(redis_url, _TIMEOUT), Keys(prefix))
