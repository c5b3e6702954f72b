"""Which endpoint of a table to call: by weight, and in a failover one that was not tried yet.

A caller that fails over looks the table up anew before each try and hands in what it has tried, so it sees a newer
table than the first try did, if there is one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Set

from waypost.wire.endpoint import Endpoint


def pick(endpoints: Mapping[str, Endpoint], chance: random.Random, *, without: Set[str] = frozenset()) -> str | None:
    """Return the id of an instance that is not in `without`, at random by weight; None when there is none.

    Weight 0 asks for no new requests, so such an endpoint is picked only where nothing else is left to pick; zeros
    among themselves are equal.
    """
    candidates = [instance for instance in sorted(endpoints) if instance not in without]
    if not candidates:
        return None
    weights = [endpoints[instance].weight for instance in candidates]
    return chance.choices(candidates, weights if any(weights) else None)[0]
