"""Taking a change set back, where it came from: the ConfigMaps get what they had, as one new change set.

The topic alone would not do: the syncer would make it equal to the ConfigMaps again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from waypost.controller.config_maps import CHANGE_SET, CHANGE_SET_SIZE, LABEL
from waypost.errors import SettingsError
from waypost.model.configs import Content, ObjectKey, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRollback:
    """What one ConfigMap's keys shall be; None: gone."""

    key: ObjectKey
    entries: Mapping[str, Content | None] = field(default_factory=dict)

    def patch(self, change_set: str, size: int, current: Any | None) -> dict[str, Any]:
        """Return the merge patch for `current` (a `V1ConfigMap`), or the whole object when there is none.

        A ConfigMap that stands alone gets no change set: its next ordinary edit would have to name one.
        """
        data: dict[str, str | None] = {}
        binary: dict[str, str | None] = {}
        for entry, content in self.entries.items():
            if content is None or not content.binary:
                data[entry] = None if content is None else content.text
            if content is None or content.binary:
                binary[entry] = None if content is None else content.text
            if content is not None:
                (data if content.binary else binary)[entry] = None
        metadata: dict[str, Any] = {"name": self.key.name, "namespace": self.key.namespace}
        annotations = (current.metadata.annotations or {}) if current is not None else {}
        if size > 1 or CHANGE_SET in annotations:
            metadata["annotations"] = {CHANGE_SET: change_set, CHANGE_SET_SIZE: str(size)}
        if current is not None:
            metadata["resourceVersion"] = current.metadata.resource_version  # a change in between is a conflict
            return {"metadata": metadata, "data": data, "binaryData": binary}
        return {
            "metadata": metadata,
            "data": {entry: text for entry, text in data.items() if text is not None},
            "binaryData": {entry: text for entry, text in binary.items() if text is not None},
        }


def by_object(undone: Mapping[str, Content | None], scope: Scope) -> list[ObjectRollback]:
    """Return what to do per ConfigMap. Raises ValueError for a configuration that comes from none."""
    entries: dict[ObjectKey, dict[str, Content | None]] = {}
    for name, content in undone.items():
        owner = scope.owner_of(name)
        if owner is None:
            raise ValueError(f"{name} comes from no ConfigMap; whoever wrote it has to write it again")
        entries.setdefault(owner, {})[name.rpartition("/")[2]] = content
    return [ObjectRollback(key=key, entries=found) for key, found in sorted(entries.items())]


def write_back(api: Any, objects: Sequence[ObjectRollback], change_set: str) -> None:
    """Patch the ConfigMaps, and make those anew that are gone. Raises SettingsError when one cannot be written.

    Cut short, it leaves an incomplete change set, of which nothing is published; run it again.
    """
    from kubernetes import client

    core: Any = client.CoreV1Api(api)  # its models may be plain dictionaries, its types do not say so
    for one in objects:
        try:
            current = _read(core, one.key)
            patch = one.patch(change_set, len(objects), current)
            if current is not None:
                core.patch_namespaced_config_map(one.key.name, one.key.namespace, patch)
            else:
                label, _, value = LABEL.partition("=")
                patch["metadata"]["labels"] = {label: value}
                core.create_namespaced_config_map(one.key.namespace, patch)
        except client.ApiException as error:
            raise SettingsError(f"ConfigMap {one.key} cannot be written: {error.status} {error.reason}") from error


def _read(core: Any, key: ObjectKey) -> Any | None:
    from kubernetes import client

    try:
        return core.read_namespaced_config_map(key.name, key.namespace)
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
