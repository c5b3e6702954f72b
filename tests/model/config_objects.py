"""Builders for tests of configurations, and a topic as far as the model sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from waypost.model.change_sets import ChangeSet, Plan, plan
from waypost.model.configs import ConfigObject, Content, ObjectKey, Published, Scope

T0 = 1_795_298_407_272
SOURCE = "configmaps"
SCOPE = Scope(source=SOURCE)


def a_config_map(
    name: str = "app", *, namespace: str = "shop", change_set: str | None = None, size: int | str | None = None,
    **contents: str | Content,
) -> ConfigObject:  # fmt: skip
    """A ConfigMap whose keys are the other arguments."""
    return ConfigObject(
        key=ObjectKey(namespace, name),
        contents={key: one if isinstance(one, Content) else Content(one) for key, one in contents.items()},
        change_set=change_set,
        size=None if size is None else str(size),
        uid=f"uid-{namespace}-{name}",
        version="1",
    )


@dataclass
class Topic:
    """What the topic has after everything that was planned was written."""

    scope: Scope = SCOPE
    published: dict[str, Published] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    floor: int = 0
    ids: list[str] = field(default_factory=list)

    def plan(self, objects: Collection[ConfigObject], *, now_ms: int = T0, deleted: Collection[ObjectKey] = ()) -> Plan:
        return plan(objects, self.published, self.scope, now_ms=now_ms, floor=self.floor, deleted=deleted)

    def sync(
        self, *objects: ConfigObject, now_ms: int = T0, deleted: Collection[ObjectKey] = ()
    ) -> Plan:  # fmt: skip
        decided = self.plan(objects, now_ms=now_ms, deleted=deleted)
        for one in decided.change_sets:
            self.write(one)
        return decided

    def write(self, one: ChangeSet) -> None:
        self.ids.append(one.id)
        for change in one.changes:
            self.floor = max(self.floor, change.revision)
            if change.content is None:
                del self.published[change.name], self.contents[change.name]
                continue
            self.contents[change.name] = change.content
            self.published[change.name] = Published(
                revision=change.revision, checksum=change.content.checksum, binary=change.content.binary,
                change_set=one.id, source=self.scope.source,
            )  # fmt: skip

    def texts(self) -> Mapping[str, str]:
        return {name: content.text for name, content in self.contents.items()}
