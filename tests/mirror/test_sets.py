"""What is declared is what is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waypost.mirror.sets import Endpoints, to_declare

ENDPOINTS = st.frozensets(st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.integers(1, 3)), max_size=3)
SETS = st.dictionaries(st.sampled_from(["a", "b", "c"]), ENDPOINTS)
Sets = dict[str, Endpoints]


@given(SETS, SETS)
def test_declaring_the_difference_leads_to_what_is_wanted(wanted: Sets, declared: Sets) -> None:
    after = {**declared, **to_declare(wanted, declared)}

    services = wanted.keys() | declared.keys()
    assert {s: after.get(s, frozenset()) for s in services} == {s: wanted.get(s, frozenset()) for s in services}
    assert to_declare(wanted, after) == {}


@given(SETS, SETS)
def test_only_what_differs_is_declared(wanted: Sets, declared: Sets) -> None:
    for service, endpoints in to_declare(wanted, declared).items():
        assert endpoints != declared.get(service, frozenset())
