"""Isolations on their way to the route folds: one record about a service goes there, one about a node to all of its
services, by way of the node index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedCoProcessFunction, ProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor

from jobs.operators.keyed_state import BYTES
from jobs.operators.meters import Meters
from jobs.operators.outputs import MAX_KEY, NODE_WORDS, dead_letter
from schemas.flink_types import ISOLATIONS
from waypost.errors import DecodeError
from waypost.metrics import DEAD_LETTERS, ISOLATION_RECORDS, NODE_SERVICES_KNOWN
from waypost.model.isolation import Isolation
from waypost.model.node_index import NodeIndex
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.glue import ENTRY, FIELD, encode_entry, read_entries
from waypost.wire.isolation import decode_isolation, encode_isolation, isolation_key
from waypost.wire.isolation_state import decode_word, encode_word
from waypost.wire.node_index import decode_pairs, encode_pairs, read_pairs

NODE_SHARDS = 4
"""The index is kept in so many parts. Fixed by what is stored. Few, because a row costs Python 0.2 ms whatever it
carries: a storm of registrations is 40 rows a second."""

_MOST_BLOBS = 1_000
"""Additions to a part of the index until it is written anew as a whole; a restore reads them one by one."""

_IN_THE_WAY = re.compile(f"[{ENTRY}{FIELD}]")


class IsolationDecoder(ProcessFunction):
    """Input: RAW_RECORD rows of the isolation topic. Output: ROUTE_INPUT rows of those about one service; on the side
    words about nodes, and dead letters."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = Meters(runtime_context, ISOLATION_RECORDS)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        key = None if value[0] is None else bytes(value[0])
        body = None if value[1] is None else bytes(value[1])
        stamp = Stamp(value[4], value[2], value[3])
        try:
            word = decode_isolation(body, stamp)
        except DecodeError as error:
            self._meters.count(DEAD_LETTERS, error.reason)
            yield dead_letter(self._topic, stamp.partition, stamp.offset, error.reason, key, body, error.detail)
            return
        assert body is not None
        self._meters.count(ISOLATION_RECORDS, word.verb.value)
        readable_key = _IN_THE_WAY.sub("", (key or b"")[:MAX_KEY].decode(errors="replace"))
        entry = encode_entry(readable_key, stamp, body.decode())
        if word.service is None:
            yield NODE_WORDS, Row(shard_of(word.node, NODE_SHARDS), entry)
        else:
            yield Row(str(word.service), ISOLATIONS, entry.encode())


class NodeIndexer(KeyedCoProcessFunction):
    """Inputs, keyed by shard of the node: rows (shard, column of `waypost.wire.node_index`), and NODE_WORD rows.
    Output: ROUTE_INPUT rows.

    The index is in memory as a whole, for looking a pair up must cost nothing: nearly all of them are known. State is
    only added to.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        self._pairs = runtime_context.get_list_state(ListStateDescriptor("pairs", BYTES))
        self._words = runtime_context.get_map_state(MapStateDescriptor("words", Types.STRING(), BYTES))
        self._indices: dict[int, NodeIndex] = {}
        self._blobs: dict[int, int] = {}
        self._known = 0
        self._meters = Meters(runtime_context, NODE_SERVICES_KNOWN)

    def process_element1(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        shard = value[0]
        index = self._index(shard)
        new, to_tell = index.learn(read_pairs(value[1]))
        if new:
            self._note(shard, index, new)
        for service, word in to_tell:
            yield _passed_on(service, word)

    def process_element2(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        index = self._index(value[0])
        for _, stamp, text in read_entries(value[1]):
            word = decode_isolation(text, stamp)
            services = index.tell(word)
            if services is not None:
                self._words.put(_state_key(word), encode_word(word))
                for service in services:
                    yield _passed_on(service, word)

    def _note(self, shard: int, index: NodeIndex, new: list[tuple[str, str]]) -> None:
        if self._blobs[shard] < _MOST_BLOBS:
            self._pairs.add(encode_pairs(new))
            self._blobs[shard] += 1
        else:
            self._pairs.clear()
            self._pairs.add(encode_pairs(index.pairs))
            self._blobs[shard] = 1
        self._known += len(new)
        self._meters.set(NODE_SERVICES_KNOWN, self._known)

    def _index(self, shard: int) -> NodeIndex:
        index = self._indices.get(shard)
        if index is None:
            index = self._indices[shard] = NodeIndex()
            blobs = [bytes(blob) for blob in self._pairs.get() or ()]
            for blob in blobs:
                self._known += len(index.learn(decode_pairs(blob))[0])
            for blob in self._words.values():
                index.tell(decode_word(bytes(blob)))
            self._blobs[shard] = len(blobs)
            self._meters.set(NODE_SERVICES_KNOWN, self._known)
        return index


def _state_key(word: Isolation) -> str:
    """Return where a word about a node is kept: a repair's beside that of people. Older builds kept the newest of both
    under the node's name; read with the others, it finds its place by its stamp."""
    return f"{word.node} {word.by}" if word.spares_the_last else word.node


def _passed_on(service: str, word: Isolation) -> Row:
    entry = encode_entry(isolation_key(word).decode(), word.stamp, encode_isolation(word).decode())
    return Row(service, ISOLATIONS, entry.encode())
