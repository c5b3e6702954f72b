"""The configurations as they stand, followed on `service-config`: for gateways, agents, jobs and applications.

    configs = ConfigSubscriber("kafka:9092", on_change=told)
    configs.start()
    configs.wait(timedelta(seconds=10))
    configs.get("shop/app/limits.yaml").text

A thread of its own reads committed records only and replaces one immutable snapshot per change set, so nobody sees half
of one, and a lookup never waits or fails. While Kafka is away the last known configurations stay, and `stale_since`
says since when. A topic that was emptied is not believed: the configurations stay, marked stale.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from waypost.client.change_log import ChangeLog, LoggedConfig, read_logged
from waypost.client.config_feed import ConfigFeed, RawConfig, read_to_end
from waypost.client.connection import Backoff
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.wire.config import ConfigRecord

_log = logging.getLogger(__name__)

POLL_S = 0.5
CONFIRM_S = 5.0
"""How often Kafka is asked whether anything is missing; without an answer the snapshot counts as stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """One configuration that is different now. `after` None: it was taken away; `before` None: it is new."""

    name: str
    before: ConfigRecord | None
    after: ConfigRecord | None
    change_set: str


OnChange = Callable[[tuple[ConfigChange, ...]], None]


class ConfigSubscriber:
    """See the module. `prefixes`: only names that begin with one of them; none means all. `on_change` is called on the
    reading thread, once per change set with everything in it that is different, and once at the start with everything;
    what it raises is logged. Lookups may come from any thread."""

    def __init__(
        self,
        feed: Callable[[], ConfigFeed],
        *,
        prefixes: Iterable[str] = (),
        on_change: OnChange | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._connect = feed
        self._prefixes = tuple(prefixes)
        self._on_change = on_change
        self._now_ms = now_ms
        self._configs: Mapping[str, ConfigRecord] = MappingProxyType({})
        self._offsets: dict[str, int] = {}
        self._stale_since: int | None = now_ms()
        self._known = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following configurations", daemon=True)
        self.refused = 0
        """Records that could not be read; what they should have replaced stays."""
        self.problem = ""
        """Why the newest reading failed, "" when it did not."""

    def start(self) -> None:
        self._thread.start()

    def wait(self, timeout: timedelta) -> bool:
        """Return whether the configurations have been read once, in time."""
        return self._known.wait(timeout.total_seconds())

    def get(self, name: str) -> ConfigRecord | None:
        """Return a configuration as last known, None when there is none."""
        return self._configs.get(name)

    def snapshot(self) -> Mapping[str, ConfigRecord]:
        """Return all configurations as last known; it never changes, so what it holds belongs together."""
        return self._configs

    @property
    def stale_since(self) -> int | None:
        """When Kafka last confirmed the snapshot (epoch ms), or when this began; None: it confirms it now."""
        return self._stale_since

    def close(self) -> None:
        """Stop following; what was known stays readable."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    # --- the reading thread -------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(first=timedelta(milliseconds=200))
        while not self._closed.is_set():
            feed = self._connect()
            try:
                self._read_whole(feed)
                backoff.reset()
                self._follow(feed)
            except Exception as error:  # whatever it is: without this thread nobody would see a change any more
                if self._closed.is_set():
                    return
                if self.problem != str(error):
                    _log.warning("configurations are stale: %s", error)
                self._outdated(str(error))
            finally:
                feed.close()
            self._closed.wait(backoff.next().total_seconds())

    def _read_whole(self, feed: ConfigFeed) -> None:
        """Read the topic from its beginning; the snapshot stays as it is until the end is reached."""
        log, configs, offsets = ChangeLog(), dict[str, ConfigRecord](), dict[str, int]()
        feed.rewind()
        for raw in read_to_end(feed, is_over=self._closed.is_set):
            _apply(self._taken(log, raw), configs, offsets)
        _apply(self._wanted(log.end()), configs, offsets)
        if self._offsets and not offsets:
            raise RegistryUnavailable("the topic is empty and was not")
        self._offsets = offsets
        self._replace(configs, {*self._configs, *configs}, "")
        self._confirmed()
        self._known.set()

    def _follow(self, feed: ConfigFeed) -> None:
        log, confirm_at = ChangeLog(), time.monotonic() + CONFIRM_S
        while not self._closed.is_set():
            for raw in feed.read(POLL_S):
                self._show(self._taken(log, raw))
            if log.is_open or time.monotonic() >= confirm_at:
                end, position = feed.end(), feed.position()
                if end < position:
                    raise RegistryUnavailable("the topic is shorter than it was")
                if end == position:
                    self._show(self._wanted(log.end()))
                self._confirmed()
                confirm_at = time.monotonic() + CONFIRM_S

    def _taken(self, log: ChangeLog, raw: RawConfig) -> list[LoggedConfig]:
        try:
            visible = log.take(read_logged(raw.key, raw.value, raw.headers, raw.offset, raw.at))
        except DecodeError as error:
            self.refused += 1
            _log.error("a configuration is refused: offset %d, %s", raw.offset, error)
            visible = log.refuse(raw.headers, error)
        return self._wanted(visible)

    def _wanted(self, visible: list[LoggedConfig]) -> list[LoggedConfig]:
        return [one for one in visible if not self._prefixes or one.name.startswith(self._prefixes)]

    def _show(self, visible: list[LoggedConfig]) -> None:
        if visible:
            configs = dict(self._configs)
            _apply(visible, configs, self._offsets)
            self._replace(configs, {one.name for one in visible}, visible[0].change_set)

    def _replace(self, configs: dict[str, ConfigRecord], touched: set[str], change_set: str) -> None:
        before = self._configs
        self._configs = MappingProxyType(configs)
        changes = tuple(
            ConfigChange(name=name, before=before.get(name), after=configs.get(name), change_set=change_set)
            for name in sorted(touched)
            if not _same(before.get(name), configs.get(name))
        )
        if changes and self._on_change is not None:
            try:
                self._on_change(changes)
            except Exception:
                _log.exception("the callback failed on %d configurations", len(changes))

    def _confirmed(self) -> None:
        self._stale_since, self.problem = None, ""

    def _outdated(self, problem: str) -> None:
        self.problem = problem
        if self._stale_since is None:
            self._stale_since = self._now_ms()


def _apply(visible: list[LoggedConfig], configs: dict[str, ConfigRecord], offsets: dict[str, int]) -> None:
    for one in visible:
        if one.offset <= offsets.get(one.name, -1):
            continue  # an old set that lost a part to compaction is given out after newer ones
        offsets[one.name] = one.offset
        if one.record is None:
            configs.pop(one.name, None)
        else:
            configs[one.name] = one.record


def _same(one: ConfigRecord | None, other: ConfigRecord | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.value, one.binary, one.revision) == (other.value, other.binary, other.revision)
