"""The Flink types of what travels inside the repair job."""

from __future__ import annotations

from pyflink.common import Types


def carried(value: bytes) -> str:
    """Return bytes as the text in which they travel: Latin-1, which has a sign for each byte.

    Thread mode hands over bytes one by one, and hands a text to Java as if it were modified UTF-8, which it is not
    beyond the basic plane: an emoji in a label would fail the job.
    """
    return value.decode("latin-1")


def received(text: str) -> bytes:
    """Return what `carried` was given."""
    return text.encode("latin-1")


RAW_TEXT = Types.ROW_NAMED(
    ["key", "value", "partition", "offset", "at"],
    [Types.STRING(), Types.STRING(), Types.INT(), Types.LONG(), Types.LONG()],
)
"""One record as Kafka holds it, key and value as Latin-1 text. `at` is its append time."""

REPAIR_INPUT = Types.ROW_NAMED(["target", "kind", "body"], [Types.STRING(), Types.STRING(), Types.STRING()])
"""Something that a target's fold, the budget or a target's executor has to hear of. `target` is the key of its
records; `kind` is one of those below, and says what `body` is."""

ALERT = "alert"
"""A record of `alerts`."""
PART = "part"
"""Which of the target's alerts are part of an incident: its id, "" for none any more, and fingerprints, as a JSON
pair."""
RESULT = "result"
"""A record of `repair-results`."""
WORD = "word"
"""An approval or a resumption: name and value of the configuration, as a JSON pair."""
ASK = "ask"
"""A record of `repair-actions`: an action that wants to be granted."""
CANCEL = "cancel"
"""The same: an action that must not begin any more."""
ACT = "act"
"""A granted action as a record of `repair-actions`, and its surroundings, as a JSON pair."""
CHANGE = "change"
"""A record of `route-changes`. In the place of the target is its append time: it is for the budget only."""
TABLE = "table"
"""How many endpoints the target's table has now."""
