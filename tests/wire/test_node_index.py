"""Who is on which node, as SQL glues it and as state keeps it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import StateVersionError
from waypost.wire.node_index import decode_pairs, encode_pairs, join_pairs, read_pairs

NODES = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True)
SERVICES = st.from_regex(r"[a-z0-9-]{1,9}/[a-z0-9.-]{1,9}", fullmatch=True)


@given(st.lists(st.tuples(NODES, SERVICES), min_size=1, max_size=5))
def test_pairs_come_back(pairs: list[tuple[str, str]]) -> None:
    assert list(read_pairs(join_pairs(pairs))) == pairs
    assert list(decode_pairs(encode_pairs(pairs))) == pairs


def test_pairs_are_written_as_they_were_when_version_1_was_made() -> None:
    assert encode_pairs([("n1", "default/payments"), ("n2", "shop/cart")]) == b"1\nn1 default/payments\nn2 shop/cart"


def test_pairs_of_another_version_are_refused_with_the_remedy() -> None:
    with pytest.raises(StateVersionError, match="restore the savepoint with the release that wrote it"):
        decode_pairs(b"2\nn1 a/b")
