"""Where a syncer writes: `service-config`, whole change sets at a time, as the only writer of its source.

    take_over ──► init_transactions: aborts what a dead predecessor left open, fences a living one
              ──► reads what is committed: from here on nobody else writes these records
    write     ──► one transaction for whole change sets: all of them become readable, or none

After any failure nobody knows whether the transaction was committed; taking over again resolves it and reads what came
of it. A writer that was fenced must not take over again by itself: its successor is at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from waypost.client.change_log import ChangeLog, LoggedConfig, read_logged
from waypost.client.config_feed import ConfigFeed, MemoryTopic, await_decided, read_to_end
from waypost.errors import DecodeError, FencedError, RegistryUnavailable
from waypost.model.change_sets import ChangeSet
from waypost.model.configs import Published
from waypost.wire.config import encode_change_set, revision_of

AT_ONCE = 50
AT_ONCE_BYTES = 4_000_000
"""How much one transaction takes, unless one change set alone is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the topic says: every configuration that is there, and the highest revision seen."""

    published: Mapping[str, Published] = field(default_factory=dict)
    floor: int = 0


class ConfigLog(Protocol):
    """See the module."""

    def take_over(self) -> Observed:
        """Become the only writer and return what is committed. Raises RegistryUnavailable, TopicError, FencedError."""
        ...

    def write(self, change_sets: Sequence[ChangeSet]) -> None:
        """Return when all of them are committed, together; readers see them a moment later. Raises FencedError when
        another one writes now, and RegistryUnavailable when it is not known what came of it: take over again."""
        ...

    def close(self) -> None:
        """Let go of the connection, without finishing anything. Closing twice is harmless."""
        ...


def observe(feed: ConfigFeed) -> Observed:
    """Return what the committed records up to the present end say. What cannot be read counts as not there.

    A transaction of another source that is open would hide records of ours, so its end is waited for.
    """
    await_decided(feed)
    log, published, offsets, floor = ChangeLog(), dict[str, Published](), dict[str, int](), 0
    for raw in read_to_end(feed):
        try:
            visible = log.take(read_logged(raw.key, raw.value, raw.headers, raw.offset, raw.at))
        except DecodeError as error:
            visible = log.refuse(raw.headers, error)
        floor = _fold(visible, published, offsets, floor)
    floor = _fold(log.end(), published, offsets, floor)
    return Observed(published=published, floor=floor)


def _fold(
    visible: Iterable[LoggedConfig], published: dict[str, Published], offsets: dict[str, int], floor: int
) -> int:  # fmt: skip
    for one in visible:
        floor = max(floor, revision_of(one.change_set))
        if one.offset <= offsets.get(one.name, -1):
            continue
        offsets[one.name] = one.offset
        if one.record is None:
            published.pop(one.name, None)
            continue
        record = one.record
        floor = max(floor, record.revision)
        published[one.name] = Published(
            revision=record.revision,
            checksum=record.content.checksum,
            binary=record.binary,
            change_set=one.change_set,
            source=record.source,
        )
    return floor


def transactions(change_sets: Iterable[ChangeSet]) -> Iterator[list[ChangeSet]]:
    """Yield change sets in their order, as many as one transaction takes; each is whole in one."""
    batch: list[ChangeSet] = []
    size = 0
    for one in change_sets:
        if batch and (len(batch) == AT_ONCE or size + one.size > AT_ONCE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


@dataclass(slots=True)
class MemoryLog:
    """The fake over a MemoryTopic. Writers of one topic share `writers`; a newer one fences the older."""

    topic: MemoryTopic
    source: str = "configmaps"
    writers: list[object] = field(default_factory=list)
    failure: RegistryUnavailable | None = None
    _me: object = None

    def take_over(self) -> Observed:
        if self.failure is not None:
            raise self.failure
        self._me = object()
        self.writers.append(self._me)
        return observe(self.topic.feed())

    def write(self, change_sets: Sequence[ChangeSet]) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.writers or self.writers[-1] is not self._me:
            raise FencedError("a newer syncer writes these configurations now")
        self.topic.commit(record for one in change_sets for record in encode_change_set(one, self.source))

    def close(self) -> None:
        """Nothing is open."""
