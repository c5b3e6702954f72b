"""Which shard an id belongs to. `tests/flink` asks the JVM itself; here are values it gave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from waypost.model.shards import java_hash, shard_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("a", 97),
        ("Aa", 2112),
        ("BB", 2112),
        ("hello", 99162322),
        ("pod-7", 106838703),
        ("payments-7f9-x2", 647423741),
        ("10.1.2.3:8080", 1703021663),
        ("polygenelubricants", -2147483648),
    ],
)
def test_the_hash_is_that_of_java(text: str, value: int) -> None:
    assert java_hash(text) == value


def test_ids_with_opposite_hashes_share_a_shard_as_flinks_hash_code_has_it() -> None:
    """`HASH_CODE` is the magnitude of Java's hash, and of the smallest integer that is the integer itself."""
    assert java_hash("00000000") == -1_173_940_224
    assert shard_of("00000000", 1000) == 224
    assert [shard_of("polygenelubricants", shards) for shards in (1, 8, 100, 128)] == [0, 0, 52, 0]


@LAW
@given(st.from_regex(r"[A-Za-z0-9._:-]{1,40}", fullmatch=True), st.integers(1, 4096))
def test_every_id_has_one_shard_in_range(instance: str, shards: int) -> None:
    shard = shard_of(instance, shards)

    assert 0 <= shard < shards
    assert -(2**31) <= java_hash(instance) < 2**31
    assert shard in {java_hash(instance) % shards, -java_hash(instance) % shards}


def test_ids_that_count_up_spread_over_all_shards() -> None:
    found = {shard_of(f"payments-{n}", 128) for n in range(10_000)}

    assert found == set(range(128))
