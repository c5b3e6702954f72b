"""Tables as hostile as Redis may hold them."""

from __future__ import annotations

from hypothesis import strategies as st

from waypost.gateway.pool import Pool, make_pool
from waypost.model.lifecycle import Declared, Health, Lease, Status
from waypost.model.names import ServiceKey, is_instance
from waypost.wire.endpoint import Endpoint, KnownInstance

_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
services = st.builds(ServiceKey, _LABEL, st.lists(_LABEL, min_size=1, max_size=3).map(".".join))
instances = st.text("abAB01._:-", min_size=1, max_size=6).filter(is_instance)
addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "2001:db8::7", "db.internal", "a.b"])
zones = st.text(max_size=5) | st.sampled_from(["a", "b", '"}]', "`", "../x", "\x00", "\U0001f600"])
hostile = st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=2)

endpoints = st.builds(
    Endpoint,
    address=addresses,
    port=st.integers(1, 4),
    weight=st.integers(0, 3),
    zone=zones,
    node=st.just(""),
    metadata=hostile,
)
drains = st.builds(
    KnownInstance,
    address=addresses,
    port=st.integers(1, 4),
    weight=st.integers(0, 3),
    zone=zones,
    metadata=hostile,
    source=st.just("test"),
    declared=st.just(Declared.DRAINING),
    health=st.just(Health.UNKNOWN),
    lease=st.just(Lease.LIVE),
    status=st.just(Status.DRAINING),
    routable=st.just(False),
    reason=st.just("draining"),
    since=st.just(0),
    generation=st.just(0),
)
routes = st.dictionaries(instances, endpoints, max_size=6)
draining = st.dictionaries(instances, drains, max_size=3)
pools: st.SearchStrategy[Pool] = st.builds(make_pool, routes, draining)
tables = st.dictionaries(services, pools, max_size=5)
