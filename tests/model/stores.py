"""Where a service's state lives in tests: dictionaries, or dictionaries of what a checkpoint would hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.isolation import Isolations
from waypost.model.service_state import DeclaredSet, Header, InstanceFacts, Pending, Published
from waypost.wire import fold_state as codec
from waypost.wire.isolation_state import decode_words, encode_words

T = TypeVar("T")


@dataclass
class DictStore:
    """A `ServiceStore` of plain dictionaries."""

    header: Header = field(default_factory=Header)
    pending: Pending = field(default_factory=Pending)
    instances: MutableMapping[str, InstanceFacts] = field(default_factory=dict)
    sets: MutableMapping[str, DeclaredSet] = field(default_factory=dict)
    published: MutableMapping[str, Published] = field(default_factory=dict)
    weights: MutableMapping[str, LoadWeight] = field(default_factory=dict)
    spares: set[str] | None = None
    isolations: Isolations = Isolations()  # noqa: RUF009 (immutable)

    def maybe_on(self, node: str) -> list[str]:
        return list(self.instances)


class Frozen(MutableMapping[str, T]):
    """A mapping that keeps bytes only: what was not assigned after a change is lost, as in keyed state."""

    def __init__(self, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> None:
        self._encode, self._decode = encode, decode
        self.blobs: dict[str, bytes] = {}

    def __getitem__(self, key: str) -> T:
        return self._decode(self.blobs[key])

    def __setitem__(self, key: str, value: T) -> None:
        self.blobs[key] = self._encode(value)

    def __delitem__(self, key: str) -> None:
        del self.blobs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.blobs))

    def __len__(self) -> int:
        return len(self.blobs)


class FrozenStore(DictStore):
    """A `ServiceStore` in which everything goes through the codecs all the time."""

    def maybe_on(self, node: str) -> list[str]:
        return [i for i, blob in self.instances.blobs.items() if codec.names_node(orjson.loads(blob), node)]

    def __init__(self) -> None:
        super().__init__(
            instances=Frozen(codec.encode_facts, codec.decode_facts),
            sets=Frozen(codec.encode_set, codec.decode_set),
            published=Frozen(codec.encode_published, codec.decode_published),
            weights=Frozen(codec.encode_weight, codec.decode_weight),
        )

    def refreeze(self) -> None:
        """Write and read the values that the owner of the store writes back after use; forget what is not state."""
        self.spares = None
        self.header = codec.decode_header(codec.encode_header(self.header))
        self.pending = codec.decode_pending(codec.encode_pending(self.pending))
        self.isolations = decode_words(encode_words(self.isolations))
