"""Bugs that show after a crash only: something of a fold is not kept, or not read back."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

GATE = "jobs/operators/gate.py"
LEASES = "jobs/operators/leases.py"
CRASHES = ("tests/jobs/test_lease_path.py::test_a_crash_between_any_two_records_changes_nothing",)

BUGS = (
    Mutant(
        name="rows-of-an-open-tick-not-kept",
        harm="A crash while a tick was coming in: the tick is never complete, and its lapses wait for another lease.",
        file=GATE,
        text='            self._rows.put(f"{row.end}:{row.shard}", blob)\n',
        instead="            pass\n",
        found_by=CRASHES,
    ),
    Mutant(
        name="fleet-not-kept",
        harm="After a crash the gate believes the fleet to be a handful, and holds every single death.",
        file=GATE,
        text="            self._live.set(gate.live)\n",
        instead="            pass\n",
        found_by=CRASHES,
    ),
    Mutant(
        name="log-time-not-kept",
        harm="After each crash nobody lapses until half a lease was seen again; with crashes in a row, nobody ever.",
        file=GATE,
        text="        self._clock.set(gate.clock)\n",
        instead="",
        found_by=CRASHES,
    ),
    Mutant(
        name="registrations-of-a-tick-not-kept",
        harm="Who registered in the second before a crash has no lease: it dies, and stays in the table for good.",
        file=LEASES,
        text="        self._journal.add(column.encode())\n",
        instead="",
        found_by=CRASHES,
    ),
    Mutant(
        name="last-beats-not-kept",
        harm="After a crash leases count from the registration, and whoever is older than its lease lapses.",
        file=LEASES,
        text="        elif result.renewed or partials:\n            self._save_beats(leases)\n",
        instead="",
        found_by=CRASHES,
    ),
)
