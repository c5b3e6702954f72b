"""Who a store had before it was emptied, and how long they are waited for."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from tests.e2e.tables import CEILING_S, eventually
from waypost.client.registry.instance import Instance
from waypost.client.registry.missing import Missing

SHORT = timedelta(milliseconds=50)
LONG = timedelta(hours=1)


class NoticedLock:
    """A lock that tells when a thread of somebody else's wants it."""

    def __init__(self) -> None:
        self._lock, self._owner, self.wanted = threading.Lock(), threading.current_thread(), threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread() is not self._owner:
            self.wanted.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Waiting:
    def __init__(self, grace: timedelta) -> None:
        self.lock, self.gone = NoticedLock(), list[list[str]]()
        self.missing = Missing(grace, self.lock, self.gone.append)

    def note(self, *found: str, known: tuple[str, ...] = ()) -> None:
        """With the lock, or the grace may be over in between."""
        self.missing.note(found, {id: an_instance(id) for id in known})
        self.missing.begin_grace()

    def awaited(self) -> list[str]:
        with self.lock:
            return [*self.missing.instances]


def an_instance(id: str) -> Instance:
    return Instance(id=id, name="pay", address="10.0.0.1", port=80)


def test_who_was_known_and_is_not_found_is_let_go_after_the_grace() -> None:
    waiting, began = Waiting(SHORT), time.monotonic()
    with waiting.lock:
        waiting.note("a", known=("a", "b", "c"))
        waiting.note("c")
        assert [*waiting.missing.instances] == ["b"]
    eventually(lambda: waiting.awaited() == [])
    assert time.monotonic() - began >= SHORT.total_seconds()
    assert waiting.gone == [["b"]]


def test_when_all_are_back_nobody_is_let_go() -> None:
    waiting = Waiting(SHORT)
    with waiting.lock:
        waiting.note(known=("a",))
        timer = waiting.missing._timer
        waiting.note("a")
    assert timer is not None
    timer.join()
    assert (waiting.gone, waiting.awaited()) == ([], [])


def test_a_grace_goes_on_when_more_is_found() -> None:
    waiting = Waiting(LONG)
    with waiting.lock:
        waiting.note("a", known=("a", "b"))
        first = waiting.missing._timer
        waiting.note("c")
        assert waiting.missing._timer is first is not None
        waiting.missing.end_grace()
    assert waiting.awaited() == ["b"]


def test_a_grace_that_was_ended_while_its_thread_waited_for_its_turn_takes_nobody() -> None:
    waiting = Waiting(SHORT)
    with waiting.lock:
        waiting.note(known=("a",))
        timer = waiting.missing._timer
        assert timer is not None
        assert waiting.lock.wanted.wait(CEILING_S)
        waiting.missing.end_grace()
    timer.join()
    assert (waiting.gone, waiting.awaited()) == ([], ["a"])
