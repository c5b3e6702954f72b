"""What travels on the window path."""

from __future__ import annotations

from functools import reduce

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.test_health_window import PARTIALS, TALLIES
from waypost.errors import StateVersionError
from waypost.model.health_window import Partial, ServiceWindow, Tally
from waypost.wire import health_window as codec

WINDOWS = st.builds(
    ServiceWindow,
    st.integers(0, 2**50),
    st.integers(0, 2**50),
    st.dictionaries(st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True), TALLIES, max_size=4),
)


@LAW
@given(st.lists(PARTIALS, max_size=5))
def test_partials_come_back_in_the_order_they_were_joined(partials: list[Partial]) -> None:
    joined = reduce(codec.join_partials, map(codec.encode_partial, partials), codec.NO_PARTIALS)

    assert list(codec.decode_partials(joined)) == partials


@LAW
@given(PARTIALS, PARTIALS, PARTIALS)
def test_joining_is_associative_with_identity(a: Partial, b: Partial, c: Partial) -> None:
    one, two, three = map(codec.encode_partial, (a, b, c))
    join = codec.join_partials

    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, codec.NO_PARTIALS) == join(codec.NO_PARTIALS, one) == one


@LAW
@given(WINDOWS)
def test_a_window_comes_back(window: ServiceWindow) -> None:
    assert codec.decode_window(codec.encode_window(window)) == window


def test_another_version_is_refused() -> None:
    window = codec.encode_window(ServiceWindow(0, 1, {"p-1": Tally(1)}))
    partial = codec.encode_partial({"default/a": {"p-1": Tally(1)}})

    for decode, blob in ((codec.decode_window, window), (lambda b: list(codec.decode_partials(b)), partial)):
        version, *fields = orjson.loads(blob)
        with pytest.raises(StateVersionError, match=f"version {version + 1}"):
            decode(orjson.dumps([version + 1, *fields]))
