"""The report says which expectation did not hold, and the table is one."""

from __future__ import annotations

from pathlib import Path

from waypost.demo.figures import exactly, within_ms
from waypost.demo.report import document, table, verdict

GOOD = exactly("failed calls", 0, 0)
SLOW = within_ms("change → reader, P99", 250.0, 100.0)
BAD = exactly("returns by late beats", 1, 0)


def test_the_document_holds_only_when_every_expectation_does() -> None:
    good = document({"calls": {"made": 9}}, [GOOD, SLOW], build="b1", script="full", seed=1)
    bad = document({}, [GOOD, BAD], build=None, script="full", seed=1)

    assert good["held"]
    assert good["calls"] == {"made": 9}
    assert good["build"] == "b1"
    assert [e["target_met"] for e in good["expectations"]] == [True, False]
    assert not bad["held"]
    assert [e["held"] for e in bad["expectations"]] == [True, False]
    assert bad["machine"]["cores"] >= 1


def test_the_columns_of_the_table_are_aligned() -> None:
    header, *rows = table([GOOD, BAD])

    assert [row.split()[0] for row in rows] == ["ok", "FAIL"]
    column = header.index("WANTED")
    assert all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)


def test_a_missed_target_is_explained() -> None:
    assert "slow" in table([SLOW])[1]
    assert "10 times" in table([SLOW])[-1]
    assert len(table([GOOD])) == 2


def test_the_verdict_names_what_did_not_hold_and_where_to_look() -> None:
    assert verdict([GOOD, SLOW], logs=Path("/x/logs")) == ["all 2 expectations held"]

    told = "\n".join(verdict([GOOD, BAD], logs=Path("/x/logs")))
    assert "1 of 2" in told
    assert "returns by late beats: measured 1, wanted 0" in told
    assert "/x/logs" in told
