"""Bugs at the borders: records that forge others, and records that get lost."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

DECODE = "jobs/operators/decode.py"
OF_TICK = "tests/wire/test_tick.py::"
OF_DECODE = "tests/jobs/test_decode.py::"

BUGS = (
    Mutant(
        name="separators-that-json-may-contain",
        harm="A beat whose text has a comma in it is taken apart into beats of other instances.",
        file="waypost/wire/glue.py",
        text='ENTRY = "\\x1e"\nFIELD = "\\x1f"\n',
        instead='ENTRY = ","\nFIELD = "|"\n',
        found_by=(OF_TICK + "test_an_entry_is_written_as_the_sql_writes_it",),
    ),
    Mutant(
        name="batch-forges-beats-of-others",
        harm="One node's agent keeps alive, or reports as failed, whomever it likes, at any time of the log.",
        file="waypost/wire/beats.py",
        text='read_instance(required(one, "instance"))',
        instead='required(one, "instance")',
        found_by=(OF_DECODE + "test_no_batch_forges_the_beat_of_another_instance",),
    ),
    Mutant(
        name="key-forges-a-registration",
        harm="Whoever may write a key deregisters whomever it likes, with a stamp that wins for ever.",
        file=DECODE,
        text='_IN_THE_WAY.sub("", (key or b"")[:MAX_KEY].decode(errors="replace"))',
        instead='(key or b"")[:MAX_KEY].decode(errors="replace")',
        found_by=(OF_DECODE + "test_no_key_forges_another_registration",),
    ),
    Mutant(
        name="bad-beat-dropped-silently",
        harm="An agent's bug stops its beats from counting, and nobody can find out why its instances lapse.",
        file="waypost/wire/tick.py",
        text="                rejects.append(Reject(TimedBeat(instance, stamp, Beat(), value), error.reason))\n",
        instead="",
        found_by=(OF_TICK + "test_an_unreadable_beat_is_refused_with_its_position_and_harms_no_other",),
    ),
    Mutant(
        name="dead-letter-without-offset",
        harm="A refused record cannot be found on its topic.",
        file="waypost/wire/dead_letter.py",
        text='"offset": offset,',
        instead='"offset": 0,',
        found_by=(OF_DECODE + "test_a_dead_letter_says_where_its_record_stands",),
    ),
)
