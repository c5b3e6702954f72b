"""What every mirrored registry offers: look once, or follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from waypost.mirror.sets import Endpoints

Tell = Callable[[Mapping[str, Endpoints]], None]
"""Is told of the services that changed: their endpoints as they are now, none for one that is gone."""


class Source(Protocol):
    """A registry as a mirror sees it. It tells what differs from what an earlier mirror has declared."""

    def look(self) -> None:
        """Read everything once and tell. Raises RegistryUnavailable."""
        ...

    def start(self) -> None:
        """Follow in the background, through outages, until `close`."""
        ...

    def close(self) -> None:
        """End the following and let go of connections."""
        ...


Open = Callable[[Tell, Mapping[str, Endpoints]], Source]
"""Makes a source of who is told and what is declared already."""
