"""Bugs of leases, gate, brake and damping: who leaves a table because of silence."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

LEASES = "waypost/model/leases.py"
GATE = "waypost/model/gate.py"
OF_LEASES = "tests/model/test_leases.py::"
OF_GATE = "tests/model/test_gate.py::"
OF_BRAKE = "tests/model/test_brake.py::"
OF_SHARES = "tests/model/test_brake_shares.py::test_a_share_falls_silent_and_comes_back_or_not"

BUGS = (
    Mutant(
        name="no-gap-rule",
        harm="Every producer stops, because a broker or a network did: all leases lapse.",
        file=GATE,
        text="if self.clock.unbroken_since <= start and any(start < beat <= lapse.deadline for beat in beats):",
        instead="if True:",
        found_by=(OF_GATE + "test_silence_of_any_length_changes_nothing",),
    ),
    Mutant(
        name="missing-tick-ignored",
        harm="The job missed some seconds of the log, and takes beats it did not see for beats that did not come.",
        file=GATE,
        text="if self.clock.unbroken_since <= start and any(",
        instead="if any(",
        found_by=(OF_GATE + "test_a_missing_tick_defers_the_lapses_whose_lease_it_touches",),
    ),
    Mutant(
        name="resume-after-silence-expires-everybody",
        harm="Producers come back after an outage, and whoever is not the first to beat is out.",
        file=GATE,
        text="until = after + lapse.lease_ms if after else 0",
        instead="until = after",
        found_by=(OF_GATE + "test_when_the_silence_ends_nobody_who_comes_back_within_a_lease_is_expired",),
    ),
    Mutant(
        name="gate-does-not-wait-for-all-shards",
        harm="Lapses are judged before it is known who beat: one slow shard, and the brake sees half of the fleet.",
        file=GATE,
        text="if len(self.rows[row.end]) < self.shards:",
        instead="if not self.rows[row.end]:",
        found_by=(OF_GATE + "test_nothing_is_decided_before_every_shard_reported",),
    ),
    Mutant(
        name="no-brake",
        harm="A switch dies, half of the fleet cannot reach Kafka, and the tables lose all of it.",
        file="waypost/model/brake.py",
        text="if not rules.enabled:",
        instead="if True:",
        found_by=(
            OF_SHARES + "[55%-of-a-service]",
            OF_SHARES + "[30%-of-the-fleet]",
        ),
    ),
    Mutant(
        name="brake-latches",
        harm="Beats are back, and those that really died stay in the table until the hold time is over.",
        file="waypost/model/brake.py",
        text="        verdict = {}\n",
        instead="        verdict = dict.fromkeys(held, Hold.SERVICE)\n",
        found_by=(OF_BRAKE + "test_beats_that_return_end_the_hold_at_once_and_the_few_still_silent_leave",),
    ),
    Mutant(
        name="held-for-ever",
        harm="Instances that died stay in the table for good, as with Eureka's self preservation.",
        file=GATE,
        text="                over.append(target)\n",
        instead="                pass\n",
        found_by=(OF_BRAKE + "test_a_hold_ends_and_the_one_that_beat_last_leaves_after_all_others",),
    ),
    Mutant(
        name="no-damping",
        harm="One instance that comes and goes every few seconds changes its table every few seconds.",
        file="waypost/model/damping.py",
        text="at + calm_after(penalty, rules) if penalty > rules.suppress else 0",
        instead="0",
        found_by=(
            "tests/model/test_damping.py::test_three_departures_are_forgiven_and_the_fourth_is_not",
            "tests/model/test_damping.py::test_flapping_beats_reporting_health_are_damped_too",
        ),
    ),
    Mutant(
        name="late-registration-gets-a-lease",
        harm="An instance that was deregistered lapses later, is waited for, and counts for the brake.",
        file=LEASES,
        text="if generation <= self.removed.get(instance, {}).get(service, ORIGIN):",
        instead="if False:",
        found_by=(OF_LEASES + "test_a_registration_older_than_the_deregistration_leases_nothing",),
    ),
    Mutant(
        name="replayed-beat-renews",
        harm="After a restore the beats of an hour ago bring back who died since.",
        file=LEASES,
        text="if stamp.at > lease.last_beat:",
        instead="if stamp.at >= lease.last_beat:",
        found_by=(OF_LEASES + "test_a_beat_that_is_read_again_does_not_renew_a_lapsed_lease",),
    ),
    Mutant(
        name="every-beat-is-news",
        harm="Each heartbeat of the fleet becomes a write to Redis.",
        file=LEASES,
        text='                if lease.lapsed:\n                    lease.lapsed, lease.packed = False, b""\n',
        instead='                if True:\n                    lease.lapsed, lease.packed = False, b""\n',
        found_by=(OF_LEASES + "test_unchanged_beats_are_no_news",),
    ),
)
