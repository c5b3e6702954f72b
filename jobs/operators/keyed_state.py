"""Flink's keyed state as the plain mappings and values that the pure folds work on.

Everything is stored as bytes by an explicit codec (`waypost.wire.fold_state`), never pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Generic, TypeVar

from pyflink.common import TypeInformation, Types
from pyflink.datastream import RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.service_state import DeclaredSet, Header, InstanceFacts, Pending, Published
from waypost.wire import fold_state as codec

T = TypeVar("T")


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


class KeyedServiceStore:
    """`waypost.model.service_state.ServiceStore` over the keyed state of the route fold.

    `turn_to` when a key's turn begins, `save` when it ends; in between the fold works on `header` and `pending`
    as on any object.
    """

    header: Header
    pending: Pending

    def __init__(self, context: RuntimeContext) -> None:
        self._header = StateValue(context, "header", codec.encode_header, codec.decode_header, Header)
        self._pending = StateValue(context, "pending", codec.encode_pending, codec.decode_pending, Pending)
        self._had_pending = False
        self._facts: StateMap[InstanceFacts] = StateMap(context, "instances", codec.encode_facts, codec.decode_facts)
        self._sets: StateMap[DeclaredSet] = StateMap(context, "sets", codec.encode_set, codec.decode_set)
        self._published: StateMap[Published] = StateMap(
            context, "published", codec.encode_published, codec.decode_published
        )
        self._weights: StateMap[LoadWeight] = StateMap(context, "weights", codec.encode_weight, codec.decode_weight)

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

    def turn_to(self) -> None:
        for state in (self._facts, self._sets, self._published, self._weights):
            state.forget()
        self.header = self._header.get()
        self.pending = self._pending.get()
        self._had_pending = bool(self.pending)

    def save(self) -> None:
        self._header.set(self.header)
        if self.pending:
            self._pending.set(self.pending)
        elif self._had_pending:
            self._pending.clear()
