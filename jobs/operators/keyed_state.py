"""Flink's keyed state as the plain mappings and values that the pure folds work on.

Everything is stored as bytes by an explicit codec (`waypost.wire.fold_state`), never pickled.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pyflink.common import TypeInformation, Types
from pyflink.datastream import RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.isolation import Isolations
from waypost.model.service_state import DeclaredSet, Header, InstanceFacts, Pending, Published
from waypost.wire import fold_state as codec
from waypost.wire.isolation_state import decode_words, encode_words

T = TypeVar("T")


NO_ISOLATIONS = Isolations()


class _Bytes(TypeInformation):
    """Bytes stored as they are.

    Of PyFlink 2.3's own types, in thread mode, PICKLED_BYTE_ARRAY would pickle what is bytes already (and unpickle
    whatever a checkpoint holds), and PRIMITIVE_ARRAY turns bytes into a tuple of numbers. A type that thread
    mode does not know is passed through unconverted and stored by Flink's byte array serializer.
    """


BYTES = _Bytes()


class StateMap(MutableMapping[str, T], Generic[T]):
    """A map state of the current key that decodes on reading and writes through.

    Entries read or written stay decoded until `forget`, which the operator calls when it turns to another key.
    A value changed in place must be assigned again to be stored.
    """

    def __init__(
        self,
        context: RuntimeContext,
        name: str,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
    ) -> None:
        self._state = context.get_map_state(MapStateDescriptor(name, Types.STRING(), BYTES))
        self._encode = encode
        self._decode = decode
        self._decoded: dict[str, T] = {}

    def forget(self) -> None:
        self._decoded.clear()

    def __getitem__(self, key: str) -> T:
        if key not in self._decoded:
            blob = self._state.get(key)
            if blob is None:
                raise KeyError(key)
            self._decoded[key] = self._decode(bytes(blob))
        return self._decoded[key]

    def __setitem__(self, key: str, value: T) -> None:
        self._decoded[key] = value
        self._state.put(key, self._encode(value))

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._decoded.pop(key, None)
        self._state.remove(key)

    def __contains__(self, key: object) -> bool:
        return key in self._decoded or bool(self._state.contains(key))

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._state.keys()))

    def __len__(self) -> int:
        return len(list(self._state.keys()))


class StateValue(Generic[T]):
    """A value state of the current key with a codec; `default` makes the value of a key that has none."""

    def __init__(
        self,
        context: RuntimeContext,
        name: str,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        default: Callable[[], T],
    ) -> None:
        self._state = context.get_state(ValueStateDescriptor(name, BYTES))
        self._encode = encode
        self._decode = decode
        self._default = default

    def get(self) -> T:
        blob = self._state.value()
        return self._default() if blob is None else self._decode(bytes(blob))

    def set(self, value: T) -> None:
        self._state.update(self._encode(value))

    def clear(self) -> None:
        self._state.clear()


class CurrentKey:
    """The key whose state and timers an operator works with.

    Flink sets it before each row and timer. An operator may go on with another key that it has had before, as
    `KeyedBroadcastProcessFunction` does in Java (`applyToKeyedState`); PyFlink 2.3 has no word for that in thread mode,
    the wrapped backend has. A key is Flink's own object, to be kept and given back as it is.
    """

    def __init__(self, context: RuntimeContext) -> None:
        self._backend: Any = context.get_keyed_state_backend()._keyed_state_backend  # type: ignore[attr-defined]

    def get(self) -> Any:
        return self._backend.getCurrentKey()

    def turn_to(self, key: Any) -> None:
        self._backend.setCurrentKey(key)


class InstanceRows:
    """What is kept of each instance of a key, in a few chunks: an access to state costs a tenth of a millisecond,
    whatever it carries.

    A row has a value or None per column. A chunk is read when it is first looked into, and written by `save`, once
    however many of its rows have changed. What was read stays for the key's next turn, until other keys need the room:
    5,000 instances take 30 ms to read and 4 ms to write, and a storm of theirs comes in slices of 10 ms.
    """

    CHUNKS = 8
    """Fixed by what is stored. 100 new instances take 8 writes; a change of one in 5,000 writes 625 rows."""

    KEPT = 100_000
    """Rows that stay read, of all keys together: some 160 MB. Those of the newest key stay however many they are."""

    def __init__(self, context: RuntimeContext, name: str, columns: int) -> None:
        self._state = context.get_map_state(MapStateDescriptor(name, Types.STRING(), BYTES))
        self._columns = columns
        self._read: OrderedDict[str, dict[int, dict[str, list[Any]]]] = OrderedDict()
        """The chunks of each key that was turned to, the newest last."""
        self._key = ""
        self._chunks: dict[int, dict[str, list[Any]]] = {}
        self._changed: set[int] = set()
        self._counted: dict[str, int] = {}
        """How many rows each key in `_read` had when it was left."""
        self._rows = 0

    def turn_to(self, key: str) -> None:
        """Work on the current key, which is `key`."""
        assert not self._changed, f"rows of {self._key} were changed and not saved"
        if key == self._key:
            return
        self._count()
        self._key, self._chunks = key, self._read.setdefault(key, {})
        self._read.move_to_end(key)
        while self._rows > self.KEPT and (oldest := next(iter(self._read))) != key:
            del self._read[oldest]
            self._rows -= self._counted.pop(oldest, 0)

    def _count(self) -> None:
        rows = sum(map(len, self._chunks.values()))
        self._rows += rows - self._counted.get(self._key, 0)
        self._counted[self._key] = rows

    def get(self, instance: str, column: int) -> Any:
        """Return a column as the lists and numbers that JSON has."""
        row = self._chunk(zlib.crc32(instance.encode()) % self.CHUNKS).get(instance)
        return None if row is None else row[column]

    def set(self, instance: str, column: int, value: list[Any] | None) -> None:
        number = zlib.crc32(instance.encode()) % self.CHUNKS
        chunk = self._chunk(number)
        row = chunk.setdefault(instance, [None] * self._columns)
        row[column] = value
        if not any(row):
            del chunk[instance]
        self._changed.add(number)

    def rows(self, column: int) -> Iterator[tuple[str, Any]]:
        """Yield every instance that has a value in a column, with the value as `get` returns it."""
        for number in range(self.CHUNKS):
            for instance, row in list(self._chunk(number).items()):
                if row[column] is not None:
                    yield instance, row[column]

    def having(self, column: int) -> Iterator[str]:
        return (instance for instance, _ in self.rows(column))

    def save(self) -> None:
        for number in sorted(self._changed):
            chunk = self._chunks[number]
            if chunk:
                self._state.put(str(number), orjson.dumps(chunk))
            else:
                self._state.remove(str(number))
        self._changed.clear()

    def _chunk(self, number: int) -> dict[str, list[Any]]:
        chunk = self._chunks.get(number)
        if chunk is None:
            blob = self._state.get(str(number))
            chunk = self._chunks[number] = {} if blob is None else orjson.loads(bytes(blob))
        return chunk


class Column(MutableMapping[str, T], Generic[T]):
    """One column of `InstanceRows` as a mapping. A value changed in place must be assigned again to be stored."""

    def __init__(
        self, rows: InstanceRows, number: int, encode: Callable[[T], bytes], decode: Callable[[list[Any]], T]
    ) -> None:
        self._rows, self._number = rows, number
        self._encode, self._decode = encode, decode
        self._decoded: dict[str, T] = {}

    def forget(self) -> None:
        self._decoded.clear()

    def __getitem__(self, key: str) -> T:
        if key not in self._decoded:
            fields = self._rows.get(key, self._number)
            if fields is None:
                raise KeyError(key)
            self._decoded[key] = self._decode(fields)
        return self._decoded[key]

    def __setitem__(self, key: str, value: T) -> None:
        self._decoded[key] = value
        self._rows.set(key, self._number, orjson.loads(self._encode(value)))

    def __delitem__(self, key: str) -> None:
        if self._rows.get(key, self._number) is None:
            raise KeyError(key)
        self._decoded.pop(key, None)
        self._rows.set(key, self._number, None)

    def __iter__(self) -> Iterator[str]:
        return self._rows.having(self._number)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class KeyedServiceStore:
    """`waypost.model.service_state.ServiceStore` over the keyed state of the route fold.

    `turn_to` when a key's turn begins, `save` when it ends; in between the fold works on it as on any object, and
    nothing but sets is written. `header`, `pending` and `isolations` stay here for the key's next turn: keyed state
    belongs to one subtask until the task is restarted, and a restarted task has a new object. Each access to state that
    is saved is a tenth of a millisecond.
    """

    def __init__(self, context: RuntimeContext) -> None:
        self._header = context.get_state(ValueStateDescriptor("header", BYTES))
        self._pending = context.get_state(ValueStateDescriptor("pending", BYTES))
        self._isolations = context.get_state(ValueStateDescriptor("isolations", BYTES))
        self._turns: dict[str, _Turn] = {}
        self.journal = context.get_list_state(ListStateDescriptor("journal", BYTES))
        """Glued records, and batches of lease transitions, that are not folded yet."""
        self._sets: StateMap[DeclaredSet] = StateMap(context, "sets", codec.encode_set, codec.decode_set)
        self._rows = InstanceRows(context, "instance-chunks", columns=3)
        self._facts: Column[InstanceFacts] = Column(self._rows, 0, codec.encode_facts, codec.decode_facts)
        self._published: Column[Published] = Column(self._rows, 1, codec.encode_published, codec.decode_published)
        self._weights: Column[LoadWeight] = Column(self._rows, 2, codec.encode_weight, codec.decode_weight)

    @property
    def instances(self) -> MutableMapping[str, InstanceFacts]:
        return self._facts

    @property
    def sets(self) -> MutableMapping[str, DeclaredSet]:
        return self._sets

    @property
    def published(self) -> MutableMapping[str, Published]:
        return self._published

    @property
    def weights(self) -> MutableMapping[str, LoadWeight]:
        return self._weights

    @property
    def header(self) -> Header:
        return self._turn.header

    @property
    def pending(self) -> Pending:
        return self._turn.pending

    @pending.setter
    def pending(self, value: Pending) -> None:
        self._turn.pending = value

    @property
    def spares(self) -> set[str] | None:
        return self._turn.spares

    @spares.setter
    def spares(self, value: set[str] | None) -> None:
        self._turn.spares = value

    @property
    def isolations(self) -> Isolations:
        return self._turn.isolations

    @isolations.setter
    def isolations(self, value: Isolations) -> None:
        self._turn.isolations = value

    def maybe_on(self, node: str) -> Iterator[str]:
        for instance, fields in self._rows.rows(0):
            # What was written in this turn is not a list, and few: the fold looks at each anyway.
            if not isinstance(fields, list) or codec.names_node(fields, node):
                yield instance

    def turn_to(self, key: str) -> None:
        """Work on the current key, which is `key`."""
        for state in (self._sets, self._facts, self._published, self._weights):
            state.forget()
        self._rows.turn_to(key)
        turn = self._turns.get(key)
        if turn is None:
            header, pending = self._header.value(), self._pending.value()
            turn = self._turns[key] = _Turn(
                Header() if header is None else codec.decode_header(bytes(header)),
                Pending() if pending is None else codec.decode_pending(bytes(pending)),
            )
            turn.had_pending = pending is not None
            isolations = self._isolations.value()
            if isolations is not None:
                turn.isolations = turn.saved_isolations = decode_words(bytes(isolations))
        self._turn = turn

    def save(self) -> None:
        """Write what is different from what was written last."""
        turn = self._turn
        self._rows.save()
        header = codec.encode_header(turn.header)
        if header != turn.saved_header:
            self._header.update(header)
            turn.saved_header = header
        if turn.isolations is not turn.saved_isolations:
            if turn.isolations:
                self._isolations.update(encode_words(turn.isolations))
            else:
                self._isolations.clear()
            turn.saved_isolations = turn.isolations
        if turn.pending:
            self._pending.update(codec.encode_pending(turn.pending))
            turn.had_pending = True
        elif turn.had_pending:
            self._pending.clear()
            turn.had_pending = False


@dataclass(slots=True)
class _Turn:
    """What stays of a key between its turns, and how much of it state has."""

    header: Header
    pending: Pending
    spares: set[str] | None = None
    isolations: Isolations = NO_ISOLATIONS
    saved_header: bytes = b""
    saved_isolations: Isolations = NO_ISOLATIONS
    had_pending: bool = False
