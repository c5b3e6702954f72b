"""Bugs of the fold of one service: what the log's records say of its instances."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

SERVICE = "waypost/model/service.py"
STATE = "waypost/model/service_state.py"
OF_SERVICE = "tests/model/test_service.py::"

BUGS = (
    Mutant(
        name="unversioned-tombstone",
        harm="A registration that comes late (another partition, a retry) brings back who was deregistered after it.",
        file=STATE,
        text="        facts.initial = event.declared\n",
        instead="        facts.initial = event.declared\n        facts.removed = ORIGIN\n",
        found_by=(OF_SERVICE + "test_nothing_late_resurrects_a_deregistered_instance",),
    ),
    Mutant(
        name="late-beat-resurrects",
        harm="The last beat of a process comes after its deregistration, and requests go to nobody for a whole lease.",
        file=STATE,
        text="return self.attributes is not None and self.generation > self.removed",
        instead="return self.attributes is not None and max(self.generation, self.lease_stamp) > self.removed",
        found_by=(OF_SERVICE + "test_nothing_late_resurrects_a_deregistered_instance",),
    ),
    Mutant(
        name="tombstone-forgotten-early",
        harm="A restore reads yesterday's records again: whoever was deregistered since is back.",
        file=SERVICE,
        text="TOMBSTONE_MS = 24 * 3600 * 1000\n",
        instead="TOMBSTONE_MS = 3600 * 1000\n",
        found_by=(OF_SERVICE + "test_a_tombstone_outlives_a_replay_from_yesterdays_savepoint",),
    ),
    Mutant(
        name="generation-ignored",
        harm="A process registers anew, and the lapse of its predecessor's lease takes it out of the table.",
        file=STATE,
        text="Lease.LAPSED if self.lapsed and self.lease_generation == self.generation else",
        instead="Lease.LAPSED if self.lapsed else",
        found_by=(OF_SERVICE + "test_a_new_registration_starts_with_facts_of_its_own",),
    ),
    Mutant(
        name="last-to-arrive-wins",
        harm="Records of two partitions arrive in another order after a restart, and the tables differ.",
        file=STATE,
        text="if declared is not None and stamp > facts.declared_stamp:",
        instead="if declared is not None:",
        found_by=(OF_SERVICE + "test_of_two_words_on_one_thing_the_later_counts_whichever_is_read_first",),
    ),
    Mutant(
        name="stale-set-accepted",
        harm="A producer that was stuck declares yesterday's endpoints, and they replace today's.",
        file=SERVICE,
        text="if event.last_updated < old.last_updated:",
        instead="if False:",
        found_by=(OF_SERVICE + "test_a_set_with_an_older_last_updated_is_refused",),
    ),
    Mutant(
        name="set-removes-endpoints-of-another-source",
        harm="Two teams declare endpoints of one service, and each throws out those of the other.",
        file=SERVICE,
        text="        sets[event.source] = new\n",
        instead="        sets.clear()\n        sets[event.source] = new\n",
        found_by=(OF_SERVICE + "test_a_set_never_removes_the_endpoints_of_another_source",),
    ),
    Mutant(
        name="beat-lifts-a-drain",
        harm="An operator drains an instance, its next healthy beat puts it back.",
        file="waypost/model/lifecycle.py",
        text="    if declared is not Declared.UP:\n",
        instead="    if declared is not Declared.UP and health is not Health.PASS:\n",
        found_by=(OF_SERVICE + "test_no_beat_and_no_check_lifts_what_was_declared",),
    ),
    Mutant(
        name="last-endpoint-not-kept",
        harm="The only instance of a service misses its beats for a minute, and every caller gets an empty table.",
        file=SERVICE,
        text="kept = self._kept(spares) if is_bare else set()",
        instead="kept: set[str] = set()",
        found_by=("tests/model/test_last_endpoint.py::test_the_last_endpoint_stays_until_another_one_is_routable",),
    ),
)
