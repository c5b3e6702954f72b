"""Where a service's state lives in tests: dictionaries, or dictionaries of what a checkpoint would hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import TypeVar

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.service_state import DeclaredSet, Header, InstanceFacts, Pending, Published
from waypost.wire import fold_state as codec

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


class Frozen(MutableMapping[str, T]):
    """A mapping that keeps bytes only: what was not assigned after a change is lost, as in keyed state."""

    def __init__(self, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> None:
        self._encode, self._decode = encode, decode
        self._blobs: dict[str, bytes] = {}

    def __getitem__(self, key: str) -> T:
        return self._decode(self._blobs[key])

    def __setitem__(self, key: str, value: T) -> None:
        self._blobs[key] = self._encode(value)

    def __delitem__(self, key: str) -> None:
        del self._blobs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._blobs))

    def __len__(self) -> int:
        return len(self._blobs)


class FrozenStore(DictStore):
    """A `ServiceStore` in which everything goes through the codecs all the time."""

    def __init__(self) -> None:
        super().__init__(
            instances=Frozen(codec.encode_facts, codec.decode_facts),
            sets=Frozen(codec.encode_set, codec.decode_set),
            published=Frozen(codec.encode_published, codec.decode_published),
            weights=Frozen(codec.encode_weight, codec.decode_weight),
        )

    def refreeze(self) -> None:
        """Write and read the two values that the owner of the store writes back after use; forget what is not state."""
        self.spares = None
        self.header = codec.decode_header(codec.encode_header(self.header))
        self.pending = codec.decode_pending(codec.encode_pending(self.pending))
