"""Who a store had before it was emptied, and how long they are waited for."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from tests.e2e.tables import eventually
from waypost.client.registry.instance import Instance
from waypost.client.registry.missing import Missing

SHORT = timedelta(milliseconds=50)
LONG = timedelta(hours=1)


class Waiting:
    def __init__(self, grace: timedelta) -> None:
        self.lock, self.gone = threading.Lock(), list[list[str]]()
        self.missing = Missing(grace, self.lock, self.gone.append)

    def note(self, *found: str, known: tuple[str, ...] = ()) -> None:
        with self.lock:
            self.missing.note(found, {id: an_instance(id) for id in known})
            self.missing.begin_grace()


def an_instance(id: str) -> Instance:
    return Instance(id=id, name="pay", address="10.0.0.1", port=80)


def test_who_was_known_and_is_not_found_is_let_go_after_the_grace() -> None:
    waiting, began = Waiting(SHORT), time.monotonic()
    waiting.note("a", known=("a", "b", "c"))
    waiting.note("c")
    assert [*waiting.missing.instances] == ["b"]
    eventually(lambda: waiting.gone)
    assert time.monotonic() - began >= SHORT.total_seconds()
    assert (waiting.gone, bool(waiting.missing)) == ([["b"]], False)


def test_when_all_are_back_nobody_is_let_go() -> None:
    waiting = Waiting(SHORT)
    waiting.note(known=("a",))
    waiting.note("a")
    eventually(lambda: waiting.missing._timer is None)
    assert (waiting.gone, bool(waiting.missing)) == ([], False)


def test_a_grace_goes_on_when_more_is_found() -> None:
    waiting = Waiting(LONG)
    waiting.note("a", known=("a", "b"))
    first = waiting.missing._timer
    waiting.note("c")
    assert waiting.missing._timer is first is not None
    with waiting.lock:
        waiting.missing.end_grace()
    assert [*waiting.missing.instances] == ["b"]


def test_a_grace_that_was_ended_while_its_thread_waited_for_its_turn_takes_nobody() -> None:
    waiting = Waiting(SHORT)
    with waiting.lock:
        waiting.missing.note((), {"a": an_instance("a")})
        waiting.missing.begin_grace()
        timer = waiting.missing._timer
        assert timer is not None
        time.sleep(5 * SHORT.total_seconds())  # by now it waits for the lock
        waiting.missing.end_grace()
    timer.join()
    assert (waiting.gone, [*waiting.missing.instances]) == ([], ["a"])
