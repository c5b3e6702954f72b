"""Bugs of the operator that writes the tables: after a restore, in an outage, beside another writer."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

ROUTES = "jobs/operators/routes.py"
OF_ROUTES = "tests/jobs/test_route_fold.py::"

BUGS = (
    Mutant(
        name="published-before-caught-up",
        harm="A job restored from an old checkpoint shows every gateway the tables of that time.",
        file=ROUTES,
        text="if not position.reaches(_position(stored)):",
        instead="if False:",
        found_by=(OF_ROUTES + "test_restart_behind_the_store_publishes_nothing_before_the_log_reached_it",),
    ),
    Mutant(
        name="outage-forgets-changes",
        harm="What happened while Redis was away never becomes visible.",
        file=ROUTES,
        text="            outcome = self._store.publish(plan.publication, epoch, now)\n",
        instead=(
            "            fold.done(plan)\n            outcome = self._store.publish(plan.publication, epoch, now)\n"
        ),
        found_by=(OF_ROUTES + "test_after_an_outage_everything_is_visible_within_retry_ms",),
    ),
    Mutant(
        name="fenced-writer-takes-the-tables-back",
        harm="Two copies of the job run by mistake, and the tables change hands many times a second.",
        file=ROUTES,
        text="                or outcome.owner == self._writer\n",
        instead="                or True\n",
        found_by=(OF_ROUTES + "test_newer_job_silences_this_one",),
    ),
    Mutant(
        name="passive-for-ever",
        harm="The job that took over is gone, and the one that is left writes nothing.",
        file=ROUTES,
        text="elif now - self._owner[1] > _SILENT_OWNERS * self._routes.audit_ms:",
        instead="elif False:",
        found_by=(OF_ROUTES + "test_passive_job_takes_over_when_the_owner_shows_no_sign_of_life",),
    ),
    Mutant(
        name="takes-over-from-a-living-owner",
        harm="Of two jobs that run by mistake, the passive one takes the tables every half a minute.",
        file=ROUTES,
        text="if self._owner is None or sight != self._owner[0]:",
        instead="if self._owner is None:",
        found_by=(OF_ROUTES + "test_passive_job_only_looks_while_the_owner_lives",),
    ),
    Mutant(
        name="wipe-not-noticed",
        harm="Redis restarts empty, and the tables of quiet services come back one by one, as the audit finds them.",
        file=ROUTES,
        text="self._store.look(self._opened.epoch).generation != self._opened.generation:",
        instead="not self._store.look(self._opened.epoch):",
        found_by=(OF_ROUTES + "test_after_a_wipe_no_service_waits_for_its_turn_in_the_audit",),
    ),
    Mutant(
        name="audit-never-heals",
        harm="Somebody edits a table by hand, or a replica lost an entry: it stays like that until the next change.",
        file=ROUTES,
        text="        if found:\n",
        instead="        if False:\n",
        found_by=("tests/jobs/test_audit.py::test_damage_is_healed_by_one_snapshot_within_audit_ms[entry deleted]",),
    ),
)
