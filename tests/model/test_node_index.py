"""The node index: whatever comes first, every service that was ever on a node has heard its newest words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW, T0, isolated, released
from waypost.model.isolation import REPAIR, Isolation, Slot
from waypost.model.node_index import NodeIndex
from waypost.model.stamp import Stamp
from waypost.wire.isolation_state import decode_word, encode_word
from waypost.wire.node_index import decode_pairs, encode_pairs

Pair = tuple[str, str]
NODES, SERVICES = ["n1", "n2"], ["a/x", "a/y", "b/x"]

PAIRS = st.tuples(st.sampled_from(NODES), st.sampled_from(SERVICES))
WORDS = st.builds(
    lambda say, node, at, by: say(Stamp(T0 + at, at % 3, at), node=node, service=None, by=by),
    st.sampled_from([isolated, released]),
    st.sampled_from(NODES),
    st.integers(0, 20),
    st.sampled_from([REPAIR, "operator:anna"]),
)
STEPS = st.lists(PAIRS | WORDS, max_size=25, unique_by=lambda step: step if isinstance(step, tuple) else step.stamp)


def restarted(index: NodeIndex) -> NodeIndex:
    """The index as a restart finds it."""
    again = NodeIndex()
    if index.services:
        again.learn(decode_pairs(encode_pairs(index.pairs)))
    for word in index.words.values():
        again.tell(decode_word(encode_word(word)))
    return again


@LAW
@given(STEPS, st.data())
def test_every_service_of_a_node_ends_with_its_newest_words(steps: list[Pair | Isolation], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(steps), max_size=5)) if steps else []
    index, heard = NodeIndex(), dict[tuple[Slot, str], list[Isolation]]()
    for step in data.draw(st.permutations(steps + repeated)):
        if isinstance(step, Isolation):
            for service in index.tell(step) or ():
                heard.setdefault((step.slot, service), []).append(step)
        else:
            for service, word in index.learn([step])[1]:
                heard.setdefault((word.slot, service), []).append(word)
        if data.draw(st.booleans()):
            index = restarted(index)

    newest: dict[Slot, Isolation] = {}
    for word in sorted((s for s in steps if isinstance(s, Isolation)), key=lambda w: w.stamp):
        newest[word.slot] = word
    pairs = [step for step in steps if not isinstance(step, Isolation)]
    wanted = {(slot, service): w for slot, w in newest.items() for node, service in pairs if node == w.node}
    assert {who: words[-1] for who, words in heard.items()} == wanted
    for words in heard.values():
        assert [word.stamp for word in words] == sorted({word.stamp for word in words})


def test_what_is_new_is_told_once() -> None:
    index = NodeIndex()

    assert index.learn([("n1", "a/x"), ("n1", "a/x"), ("n2", "a/x")])[0] == [("n1", "a/x"), ("n2", "a/x")]
    assert index.learn([("n1", "a/x")]) == ([], [])
