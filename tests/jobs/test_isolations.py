"""Isolations on their way to the folds: who hears of what, and that nobody is forgotten by a restart."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pyflink.common import Row

from jobs.operators import isolations
from jobs.operators.isolations import NODE_SHARDS, IsolationDecoder, NodeIndexer
from jobs.operators.outputs import DEAD_LETTERS, NODE_WORDS
from schemas.flink_types import ISOLATIONS
from tests.jobs.fakes import Checkpoint, Clock, FakeMetrics, Subtask
from tests.jobs.world import ISOLATION, JOB
from tests.model.events import T0, isolated, released
from waypost.metrics import ISOLATION_RECORDS, NODE_SERVICES_KNOWN
from waypost.model.fencing import WriterId
from waypost.model.isolation import Isolation
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.dead_letter import decode_dead_letter
from waypost.wire.glue import ENTRY, FIELD, encode_entry, read_entries
from waypost.wire.isolation import decode_isolation, encode_isolation
from waypost.wire.node_index import join_pairs

HERE = Stamp(T0, 3, 1204)
WRITER = WriterId(JOB, 0)


def of_node(seconds: float, node: str = "n1", offset: int = 0, partition: int = 0) -> Isolation:
    return isolated(Stamp(T0 + round(seconds * 1000), partition, offset), node=node, service=None)


# -- records ------------------------------------------------------------------------------------------------


def left(operator: Any, key: bytes | None, value: bytes | None, metrics: Counter[str] | None = None) -> list[Any]:
    """Return what leaves an operator because of one record, and count in `metrics`."""
    counted: Counter[str] = Counter() if metrics is None else metrics
    operator.open(SimpleNamespace(get_metrics_group=lambda: FakeMetrics(counted)))
    return list(operator.process_element(Row(key, value, HERE.partition, HERE.offset, HERE.at), None))


def test_a_word_about_an_instance_goes_to_its_service() -> None:
    word, metrics = isolated(HERE), Counter[str]()

    [row] = left(IsolationDecoder(ISOLATION), b"default/payments", encode_isolation(word), metrics)

    assert (row[0], row[1]) == ("default/payments", ISOLATIONS)
    [(key, stamp, text)] = read_entries(bytes(row[2]).decode())
    assert (key, stamp, decode_isolation(text, stamp)) == ("default/payments", HERE, word)
    assert metrics[f"waypost.action=isolate.{ISOLATION_RECORDS.name}"] == 1


def test_a_word_about_a_node_for_one_service_goes_there_and_nowhere_else() -> None:
    [row] = left(IsolationDecoder(ISOLATION), b"any", encode_isolation(isolated(HERE, node="n1")))

    assert (row[0], row[1]) == ("default/payments", ISOLATIONS)


def test_a_word_about_a_node_goes_to_the_index() -> None:
    [(side, row)] = left(IsolationDecoder(ISOLATION), b"node/n1", encode_isolation(of_node(0)))

    assert side is NODE_WORDS
    [(_, stamp, text)] = read_entries(row[1])
    assert (row[0], decode_isolation(text, stamp)) == (
        shard_of("n1", NODE_SHARDS),
        of_node(0, offset=1204, partition=3),
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"\xff{}", "bad-utf8"),
        (b'{"action":"isolate"}', "no-target"),
        (orjson.dumps({"action": "isolate", "node": "*", "by": "repair", "expires_at": T0 + 1}), "bad-node"),
        (orjson.dumps({"action": "isolate", "node": "n1", "by": "repair"}), "expiry-missing"),
    ],
)
def test_what_cannot_be_read_is_a_dead_letter_with_its_place(value: bytes | None, reason: str) -> None:
    [(side, row)] = left(IsolationDecoder(ISOLATION), b"node/n1", value)

    letter = decode_dead_letter(row[1])
    assert side is DEAD_LETTERS
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == (ISOLATION, 3, 1204, reason)
    assert (row[0], letter.value) == (b"node/n1", value)


def test_a_key_cannot_forge_an_entry() -> None:
    key = f"x{ENTRY}y{FIELD}z".encode()

    [row] = left(IsolationDecoder(ISOLATION), key, encode_isolation(isolated(HERE)))

    assert [k for k, _, _ in read_entries(bytes(row[2]).decode())] == ["xyz"]


# -- the node index -----------------------------------------------------------------------------------------


class Index:
    """One part of the index, which outlives its task."""

    def __init__(self) -> None:
        self.state = Checkpoint()
        self.start()

    def start(self) -> None:
        self.task = Subtask(NodeIndexer(), WRITER, Clock(T0), self.state.copy())

    def crash(self) -> None:
        self.state = self.task.state.copy()
        self.start()

    def learn(self, *pairs: tuple[str, str]) -> dict[str, Isolation]:
        return self._told(Row(0, join_pairs(pairs)), 1)

    def tell(self, word: Isolation) -> dict[str, Isolation]:
        return self._told(Row(0, encode_entry("any", word.stamp, encode_isolation(word).decode())), 2)

    def _told(self, row: Row, side: int) -> dict[str, Isolation]:
        """Return what which service is told because of a row of one of the inputs."""
        before = len(self.task.rows)
        self.task.process(row, side)
        found: dict[str, Isolation] = {}
        for service, kind, body in self.task.rows[before:]:
            [(_, stamp, text)] = read_entries(bytes(body).decode())
            assert kind == ISOLATIONS
            assert service not in found
            found[service] = decode_isolation(text, stamp)
        return found


def test_one_record_becomes_one_per_service_on_the_node() -> None:
    index = Index()
    assert index.learn(("n1", "a/x"), ("n1", "a/y"), ("n2", "a/z"), ("n1", "a/x")) == {}

    assert index.tell(of_node(1)) == {"a/x": of_node(1), "a/y": of_node(1)}
    assert index.tell(of_node(2, "n9")) == {}


def test_a_service_that_comes_to_the_node_later_is_told_once() -> None:
    index = Index()
    index.tell(of_node(1))

    assert index.learn(("n1", "a/x"), ("n2", "a/x")) == {"a/x": of_node(1)}
    assert index.learn(("n1", "a/x")) == {}
    assert index.learn(("n1", "a/y")) == {"a/y": of_node(1)}


def test_only_the_newest_word_is_passed_on_and_a_release_is_one() -> None:
    index = Index()
    index.learn(("n1", "a/x"))
    release = released(Stamp(T0 + 3_000, 0, 3), node="n1", service=None)
    index.tell(of_node(1))

    assert index.tell(release) == {"a/x": release}
    assert index.tell(of_node(2)) == {}
    assert index.tell(release) == {}
    assert index.learn(("n1", "a/y")) == {"a/y": release}


def test_a_restart_forgets_neither_who_is_where_nor_what_was_said() -> None:
    index = Index()
    index.learn(("n1", "a/x"))
    index.learn(("n2", "a/x"), ("n1", "a/y"))
    index.tell(of_node(1, "n2"))
    index.crash()

    assert index.learn(("n1", "a/x"), ("n1", "a/y"), ("n2", "a/x")) == {}
    assert index.tell(of_node(5)) == {"a/x": of_node(5), "a/y": of_node(5)}
    assert index.learn(("n2", "a/z")) == {"a/z": of_node(1, "n2")}
    assert index.task.metrics[f"waypost.{NODE_SERVICES_KNOWN.name}"] == 4


def test_what_is_known_costs_no_state_and_many_additions_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolations, "_MOST_BLOBS", 5)
    index = Index()
    pairs = [(f"n{n}", "a/x") for n in range(23)]
    for pair in pairs:
        index.learn(pair)
        index.learn(*pairs[:1])

    blobs = index.task.state.lists["pairs", 0]  # type: ignore[index]
    assert len(blobs) <= 5
    index.crash()
    assert all(index.tell(of_node(1, node, n)) == {"a/x": of_node(1, node, n)} for n, (node, _) in enumerate(pairs))
