"""Who has to hear of a word about a node: every service that ever registered an instance there.

A word about a node reaches the route folds of these services, one record each; the fold knows which of its instances
are on the node now. A service that comes to the node later is told the newest words then, whatever they say: a fold
that was told once, and is rebuilt, waits until it has been told again.

Instances are not followed. A service is told for ever of a node on which it has nothing any more, which costs it
nothing, and no order of records can make it miss a word. One entry per node and service that were ever together is the
price, some 60 bytes of state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from waypost.model.isolation import Isolation, Slot


@dataclass(slots=True)
class NodeIndex:
    """The services of each node and the newest words about it, of people and of repairs, for a part of the nodes.
    Services are named `namespace/service`, as the folds are."""

    services: dict[str, set[str]] = field(default_factory=dict)
    words: dict[Slot, Isolation] = field(default_factory=dict)

    def learn(self, pairs: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, Isolation]]]:
        """Take note of (node, service) pairs. Return those that are new, and (service, word) for whoever has to hear
        of a word because of them."""
        new, to_tell = [], []
        for node, service in pairs:
            known = self.services.setdefault(node, set())
            if service not in known:
                known.add(service)
                new.append((node, service))
                to_tell += [(service, word) for word in self.words_about(node)]
        return new, to_tell

    def tell(self, word: Isolation) -> list[str] | None:
        """Take a word about a node; return the services to pass it on to, in order, None when it says nothing new."""
        known = self.words.get(word.slot)
        if known is not None and known.stamp >= word.stamp:
            return None
        self.words[word.slot] = word
        return sorted(self.services.get(word.node, ()))

    def words_about(self, node: str) -> list[Isolation]:
        """Return the newest word of people and that of repairs, as far as there are any."""
        slots = ((f"node/{node}", by_repair) for by_repair in (False, True))
        return [self.words[slot] for slot in slots if slot in self.words]

    @property
    def pairs(self) -> Iterable[tuple[str, str]]:
        """Every (node, service) that is known."""
        return ((node, service) for node, services in self.services.items() for service in services)
