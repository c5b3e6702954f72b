"""Isolations in keyed state: all of them come back, also those that a record would no longer pass for."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_isolation import ISOLATIONS
from waypost.errors import StateVersionError
from waypost.model.isolation import Isolation, Isolations, Verb
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.isolation_state import decode_word, decode_words, encode_word, encode_words

GOLDEN = (
    b'[1,[["isolate",["default","payments"],"p-1","","looks wrong","operator:anna",1795302007272,"r-1",'
    b'[1795298407272,1,7]],["release",null,"","n1","","repair",0,"",[1795298407273,0,9]]]]'
)
WORDS = (
    Isolations()
    .with_word(
        Isolation(
            verb=Verb.ISOLATE,
            service=ServiceKey("default", "payments"),
            instance="p-1",
            cause="looks wrong",
            by="operator:anna",
            expires_at=1_795_302_007_272,
            request_id="r-1",
            stamp=Stamp(1_795_298_407_272, 1, 7),
        )
    )
    .with_word(Isolation(verb=Verb.RELEASE, node="n1", by="repair", stamp=Stamp(1_795_298_407_273, 0, 9)))
)


def test_words_are_written_as_they_were_when_version_1_was_made() -> None:
    assert encode_words(WORDS) == GOLDEN
    assert decode_words(GOLDEN) == WORDS


@given(st.lists(ISOLATIONS, max_size=4))
def test_words_come_back(words: list[Isolation]) -> None:
    said = Isolations()
    for n, word in enumerate(words):
        said = said.with_word(replace(word, stamp=Stamp(n + 1, 0, n)))

    assert decode_words(encode_words(said)) == said
    assert all(decode_word(encode_word(word)) == word for word in words)


def test_words_of_another_version_are_refused_with_the_remedy() -> None:
    for decode, blob in ((decode_words, encode_words(WORDS)), (decode_word, encode_word(WORDS.words["node/n1", True]))):
        with pytest.raises(StateVersionError, match="restore the savepoint with the release that wrote it"):
            decode(orjson.dumps([2, *orjson.loads(blob)[1:]]))
