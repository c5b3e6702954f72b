"""What stays is gone through once, and what a task has left behind does not stay."""

from __future__ import annotations

import gc
import weakref

from jobs.operators import collector
from jobs.operators.collector import spare_what_stays


class Node:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def test_what_survived_a_full_collection_is_left_alone() -> None:
    spare_what_stays()
    kept = [Node() for _ in range(1000)]
    gc.collect()

    assert gc.get_freeze_count() >= len(kept)
    assert not any(isinstance(each, Node) for each in gc.get_objects())


def test_new_garbage_is_collected() -> None:
    spare_what_stays()
    gone = weakref.ref(Node())

    gc.collect()

    assert gone() is None


def test_what_a_former_task_has_left_behind_is_collected() -> None:
    spare_what_stays()
    node = Node()
    gone = weakref.ref(node)
    gc.collect()
    del node
    gc.collect()
    assert gone() is not None

    spare_what_stays()
    gc.collect()

    assert gone() is None
    assert gc.callbacks.count(collector._freeze) == 1
