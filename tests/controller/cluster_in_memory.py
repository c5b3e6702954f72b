"""A cluster made of dictionaries. The same contract class runs on it and on a real API server."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from waypost.controller.objects import DISCOVERIES, Kind
from waypost.errors import ClusterUnavailable


class ClusterInMemory:
    """A `Cluster`. `down` makes every call fail; `writes` lists what was asked for."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.writes: list[tuple[str, str]] = []
        self.down = False
        self._uids = itertools.count(1)

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        self._ask()
        return copy.deepcopy(self.objects.get((kind.plural, namespace, name)))

    def discoveries(self, namespace: str) -> list[dict[str, Any]]:
        self._ask()
        return [
            copy.deepcopy(b)
            for (plural, ns, _), b in self.objects.items()
            if plural == DISCOVERIES.plural and ns == namespace
        ]

    def apply(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        self._ask()
        metadata = body["metadata"]
        key = (kind.plural, metadata["namespace"], metadata["name"])
        self.writes.append(("apply", metadata["name"]))
        there = self.objects.get(key) or {"metadata": {"uid": f"made-{next(self._uids)}", "generation": 0}}
        made = _merged(there, body)
        if made.get("spec") != there.get("spec"):
            made["metadata"]["generation"] += 1
        self.objects[key] = made
        return copy.deepcopy(made)

    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self._ask()
        there = self.objects.get((kind.plural, namespace, name))
        if there is None or there["metadata"]["uid"] != uid:
            return
        self.writes.append(("delete", name))
        if there["metadata"].get("finalizers"):
            there["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
        else:
            del self.objects[kind.plural, namespace, name]

    def tell(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        self._ask()
        there = self.objects.get((DISCOVERIES.plural, namespace, name))
        if there is not None:
            self.writes.append(("tell", name))
            there["status"] = {**there.get("status", {}), **copy.deepcopy(dict(status))}

    def put(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        """Store an object as somebody else would; return the stored one, for changes."""
        metadata = body["metadata"]
        self.objects[kind.plural, metadata["namespace"], metadata["name"]] = body
        return body

    def _ask(self) -> None:
        if self.down:
            raise ClusterUnavailable("GET /: refused")


def _merged(there: Any, said: Any) -> Any:
    """Return what server-side apply would make: mappings are merged, everything else is replaced."""
    if isinstance(there, Mapping) and isinstance(said, Mapping):
        return {**copy.deepcopy(dict(there)), **{key: _merged(there.get(key), value) for key, value in said.items()}}
    return copy.deepcopy(said)
