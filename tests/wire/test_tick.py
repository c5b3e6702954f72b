"""The beats column: what SQL glues together comes apart as it was."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import NOW
from waypost.model.beats import PLAIN, Beat
from waypost.model.leases import Reject, TimedBeat
from waypost.model.stamp import Stamp
from waypost.wire import tick
from waypost.wire.beats import encode_beat
from waypost.wire.glue import ENTRY, encode_entry
from waypost.wire.tick import TickReader

HERE = Stamp(NOW, 3, 1204)
BEATS = st.builds(
    Beat,
    service=st.sampled_from(["", "payments"]),
    cpu=st.none() | st.floats(0, 64, allow_subnormal=False),
    mem=st.none() | st.floats(0, 1),
)
TIMED = st.builds(
    lambda instance, stamp, beat: TimedBeat(instance, stamp, beat, encode_beat(beat).decode()),
    st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True),
    st.builds(Stamp, st.integers(0, NOW), st.integers(0, 99), st.integers(0, 2**53 - 1)),
    BEATS,
)


def read(column: str) -> tuple[list[TimedBeat], list[Reject]]:
    rejects: list[Reject] = []
    return list(TickReader().read(column, rejects)), rejects


def test_an_entry_is_written_as_the_sql_writes_it() -> None:
    assert encode_entry("pod-7", HERE, '{"cpu":0.4}') == f'pod-7\x1f3\x1f1204\x1f{NOW}\x1f{{"cpu":0.4}}'


def test_the_bare_beat_of_the_contract_is_read() -> None:
    beats, rejects = read(encode_entry("pod-7", HERE, '{"cpu":0.4}'))

    assert beats == [TimedBeat("pod-7", HERE, Beat(cpu=0.4), '{"cpu":0.4}')]
    assert rejects == []


def test_an_unreadable_beat_is_refused_with_its_position_and_harms_no_other() -> None:
    column = ENTRY.join(
        [
            encode_entry("p-1", HERE, "{}"),
            encode_entry("p-2", Stamp(NOW, 1, 7), '{"cpu":"x"}'),
            encode_entry("p-3", HERE, "not JSON"),
            encode_entry("b\u00e4d", HERE, "{}"),
            encode_entry("", HERE, "{}"),
            encode_entry("p-4", HERE, "[]"),
            encode_entry("p-5", HERE, "{}"),
        ]
    )

    beats, rejects = read(column)

    assert [beat.instance for beat in beats] == ["p-1", "p-5"]
    assert [(r.beat.instance, r.reason) for r in rejects] == [
        ("p-2", "wrong-type"),
        ("p-3", "bad-json"),
        ("b\u00e4d", "bad-instance-id"),
        ("", "bad-instance-id"),
        ("p-4", "not-an-object"),
    ]
    assert (rejects[0].beat.stamp, rejects[0].beat.raw) == (Stamp(NOW, 1, 7), '{"cpu":"x"}')


def test_a_batch_whose_name_was_written_with_escapes_is_refused() -> None:
    _, [reject] = read(encode_entry("node-1", HERE, '{"be\\u0061ts":[{"instance":"p-1"}]}'))

    assert reject.reason == "escaped-batch"


def test_a_text_seen_before_is_refused_for_a_bad_id_all_the_same() -> None:
    reader, rejects = TickReader(), []  # type: ignore[var-annotated]
    list(reader.read(encode_entry("p-1", HERE, "{}"), rejects))

    assert list(reader.read(encode_entry("p 1", HERE, "{}"), rejects)) == []
    assert [reject.reason for reject in rejects] == ["bad-instance-id"]


def test_the_memory_of_texts_is_bounded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(tick, "_MEMO_LIMIT", 10)
    reader = TickReader()

    for n in range(100):
        assert [b.beat for b in reader.read(encode_entry("p-1", HERE, f'{{"cpu":{n}}}'), [])] == [Beat(cpu=float(n))]

    assert len(reader._memo) <= 10
    assert [b.beat for b in reader.read(encode_entry("p-1", HERE, "{}"), [])] == [PLAIN]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(TIMED, min_size=1, max_size=8))
def test_what_is_glued_together_comes_apart(beats: list[TimedBeat]) -> None:
    column = ENTRY.join(encode_entry(b.instance, b.stamp, b.raw) for b in beats)

    assert read(column) == (beats, [])


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.text(st.characters(exclude_characters="\x1e\x1f", exclude_categories=["Cs"])), TIMED)
def test_no_text_forges_another_entry(text: str, other: TimedBeat) -> None:
    """SQL sets records with separators aside; any other text stays one entry, of its own id."""
    column = ENTRY.join([encode_entry("p-1", HERE, text), encode_entry(other.instance, other.stamp, other.raw)])

    beats, rejects = read(column)

    assert len(beats) + len(rejects) == 2
    assert {b.instance for b in beats} <= {"p-1", other.instance}
    assert other in beats
