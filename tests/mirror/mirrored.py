"""What a mirror's source tells, kept as a test looks at it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from tests.contracts.conftest import eventually
from waypost.mirror.sets import Endpoints


class Mirrored:
    """Keeps what it is told."""

    def __init__(self, known: Mapping[str, Endpoints]) -> None:
        self._lock = threading.Lock()
        self.sets = dict(known)
        self.told: list[dict[str, Endpoints]] = []

    def __call__(self, changed: Mapping[str, Endpoints]) -> None:
        with self._lock:
            self.told.append(dict(changed))
            self.sets.update(changed)

    def ports(self) -> dict[str, set[int]]:
        with self._lock:
            return {service: {port for _, port in those} for service, those in self.sets.items() if those}

    def becomes(self, **ports: set[int]) -> None:
        eventually(lambda: self.ports() == ports, within=60)
