"""A syncer that kills itself (SIGKILL) at one step of its transaction.

    python -m tests.e2e.config_sync_process BOOTSTRAP TOPIC RELEASE STEP

It publishes four ConfigMaps that are one change set, RELEASE, with the product's own code; only its producer is
wrapped. It prints the step it dies at, and `done` when it lives through all of them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from tests.model.config_objects import SCOPE, a_config_map
from waypost.controller.config_maps import ConfigMaps, Seen
from waypost.controller.config_sync import ConfigSync
from waypost.controller.kafka_config_log import KafkaConfigLog
from waypost.model.change_sets import ChangeSet, Plan
from waypost.model.configs import ConfigObject

MEMBERS = 4
STEPS = (
    "before init_transactions",
    "after init_transactions",
    "after begin_transaction",
    "after one record",
    "after half of the records",
    "before commit_transaction",
    "during commit_transaction",
    "after commit_transaction",
)


def members(release: str) -> list[ConfigObject]:
    """The ConfigMaps of a release."""
    return [a_config_map(f"m{n}", change_set=release, size=MEMBERS, a=release) for n in range(MEMBERS)]


class DyingProducer:
    """A producer of kafka-python's that dies at `step`."""

    def __init__(self, step: str, **settings: Any) -> None:
        from kafka import KafkaProducer

        self._step, self._sent = step, 0
        self._inner = KafkaProducer(**settings)

    def init_transactions(self) -> None:
        self._reached("before init_transactions")
        self._inner.init_transactions()
        self._reached("after init_transactions")

    def begin_transaction(self) -> None:
        self._inner.begin_transaction()
        self._reached("after begin_transaction")

    def send(self, *arguments: Any, **more: Any) -> Any:
        future = self._inner.send(*arguments, **more)
        self._sent += 1
        self._inner.flush()  # or the broker would never hear of the record
        if self._sent == 1:
            self._reached("after one record")
        if self._sent == MEMBERS // 2:
            self._reached("after half of the records")
        return future

    def commit_transaction(self) -> None:
        self._reached("before commit_transaction")
        if self._step == "during commit_transaction":
            threading.Thread(target=self._inner.commit_transaction, daemon=True).start()
            self._reached(self._step)  # committed or not: nobody is told
        self._inner.commit_transaction()
        self._reached("after commit_transaction")

    def close(self, timeout: float) -> None:
        self._inner.close(timeout=timeout)

    def _reached(self, step: str) -> None:
        if step == self._step:
            print(step, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


class Silent:
    def planned(self, plan: Plan) -> None: ...
    def written(self, change_sets: list[ChangeSet], configs: int) -> None: ...
    def failed(self) -> None: ...


def main(bootstrap: str, topic: str, release: str, step: str) -> None:
    log = KafkaConfigLog(
        bootstrap, topic, source=SCOPE.source, make_producer=lambda **settings: DyingProducer(step, **settings)
    )
    ConfigSync(ConfigMaps(), log, SCOPE, Silent()).sync(Seen(objects=tuple(members(release)), deleted=frozenset()))
    log.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
