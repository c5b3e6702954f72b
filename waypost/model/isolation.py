"""Endpoints taken out of their tables by somebody's word, for a limited time, without touching the instance.

An isolation is about one instance of a service, or about a node: then about every instance on it, also those that
register later. Of two words about the same thing the one with the newer stamp counts, so any order and any repetition
of the records ends the same. Who isolates says until when: one that is forgotten ends by itself.

    isolated = the newest word about the instance or its node is `isolate`, and its time is not over

Repairs are heard apart from everybody else, because the two are not equals: a newer word by a person ends a repair's,
and no word by a repair ends or replaces a person's.

    newest by people        newest by a repair     isolated
    isolate                 any                    by people, until their time is over
    release, or over        older isolate          no
    release, or over        newer isolate          by the repair

`Isolations` are those of one service. When the time of a word is over, the word becomes a release (`at`), and stays
one: a clock that is set back isolates nobody again. What an isolation may not do (a repair never takes the last
endpoint out of a table, an operator may) is for the service fold to say, which knows the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from waypost.model.names import ServiceKey
from waypost.model.stamp import ORIGIN, Stamp

Slot = tuple[str, bool]
"""Scope, and whether a repair says it."""

REPAIR = "repair"
"""`by` of what the repair job isolates; anybody else is a person or a program that speaks for one."""

LONGEST_MS = 7 * 24 * 3_600_000
"""How far ahead of its record an isolation may end. Longer is a decision, and decisions are `OUT_OF_SERVICE`."""


class Verb(str, Enum):
    """What is said."""

    ISOLATE = "isolate"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """One word about an instance of a service, or about a node. `service` is None where all services are meant that
    have instances on the node. `expires_at`: epoch ms; 0 for a release."""

    verb: Verb
    service: ServiceKey | None = None
    instance: str = ""
    node: str = ""
    cause: str = ""
    by: str = ""
    expires_at: int = 0
    request_id: str = ""
    stamp: Stamp = ORIGIN

    @property
    def scope(self) -> str:
        """What it is about within a service. Neither an instance id nor a node's name has a slash."""
        return f"instance/{self.instance}" if self.instance else f"node/{self.node}"

    @property
    def slot(self) -> Slot:
        """Whose word about what it is: the words of a slot replace each other."""
        return self.scope, self.spares_the_last

    @property
    def spares_the_last(self) -> bool:
        """Tell whether the last routable endpoint of a table stays in spite of it."""
        return self.by == REPAIR

    def at(self, now: int) -> Isolation:
        """Return what it says at `now`, epoch ms: an isolation whose time is over says what a release says."""
        is_over = self.verb is Verb.ISOLATE and self.expires_at <= now
        return self.ended if is_over else self

    @property
    def ended(self) -> Isolation:
        """What it says once it isolates nobody (any more)."""
        return replace(self, verb=Verb.RELEASE, expires_at=0)


@dataclass(frozen=True, slots=True)
class Isolations:
    """The newest word about each scope. Releases are kept as long as an older isolation could still arrive. Empty ones
    are false."""

    words: Mapping[Slot, Isolation] = field(default_factory=dict)

    def with_word(self, word: Isolation) -> Isolations:
        """Return the isolations after a record; the same object when it says nothing new."""
        before = self.words.get(word.slot)
        if before is not None and before.stamp >= word.stamp:
            return self
        words = {**self.words, word.slot: word}
        people, ours = words.get((word.scope, False)), words.get((word.scope, True))
        if people is not None and ours is not None and people.stamp > ours.stamp:
            words[ours.slot] = ours.ended
        return replace(self, words=words)

    def about(self, scope: str) -> Isolation | None:
        """Return the word that is in force about just this, None when there is none; people's before a repair's."""
        found = (self.words.get((scope, by_repair)) for by_repair in (False, True))
        return next((word for word in found if word is not None and word.verb is Verb.ISOLATE), None)

    def of(self, instance: str, node: str) -> Isolation | None:
        """Return the word that keeps an instance out of the table, None when there is none. Of two, one that spares
        nobody comes before a repair's, and one about the instance before one about its node."""
        found = None
        for scope in (f"instance/{instance}", f"node/{node}" if node else ""):
            word = self.about(scope)
            if word is not None:
                if not word.spares_the_last:
                    return word
                found = found or word
        return found

    @property
    def in_force(self) -> list[Isolation]:
        """The words that keep instances out of the table, should there be any that they are about."""
        return [word for word in self.words.values() if word.verb is Verb.ISOLATE]

    @property
    def next_end(self) -> int | None:
        """When the next isolation is over, None when there is none."""
        return min((word.expires_at for word in self.in_force), default=None)

    def at(self, now: int) -> Isolations:
        """Return what is said at `now`, epoch ms; the same object when no isolation is over by then."""
        if all(now < word.expires_at for word in self.in_force):
            return self
        return replace(self, words={slot: word.at(now) for slot, word in self.words.items()})

    def without_old(self, now: int) -> Isolations:
        """Return what can still matter: isolations in force, and every word younger than the longest one, because a
        replay may bring an older one."""
        kept = {s: w for s, w in self.words.items() if w.verb is Verb.ISOLATE or w.stamp.at > now - LONGEST_MS}
        return self if len(kept) == len(self.words) else replace(self, words=kept)

    def __bool__(self) -> bool:
        return bool(self.words)
