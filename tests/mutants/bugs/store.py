"""Bugs of the store: what Redis accepts, and what a reader believes of it."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

PUBLISH = "sinks/lua/publish.lua"
CONTRACT = "tests/contracts/test_route_store.py::"
COPY = "tests/client/test_table.py::"

BUGS = (
    Mutant(
        name="no-epoch-check",
        harm="A writer that was paused while its job was restarted elsewhere overwrites what its successor wrote.",
        file=PUBLISH,
        text="if owner[1] ~= request.epoch then",
        instead="if false then",
        found_by=(CONTRACT + "TestEpochs::test_a_stale_epoch_is_fenced_and_changes_nothing",),
    ),
    Mutant(
        name="epoch-follows-the-clock",
        harm="On a machine whose clock is behind, the newer writer gets the lower epoch, or the same.",
        file="sinks/lua/open.lua",
        text="  mine = math.max(mine, tonumber(epoch) + 1)\n",
        instead="",
        found_by=(CONTRACT + "TestRealServersFail::test_epochs_rise_from_process_to_process_whatever_their_clocks",),
    ),
    Mutant(
        name="base-not-checked",
        harm="A delta is applied to a table it was not made for, after a failover to a replica that lost writes.",
        file=PUBLISH,
        text="elseif tonumber(stored) ~= base then",
        instead="elseif false then",
        found_by=(CONTRACT + "TestRevisions::test_a_wrong_base_needs_a_snapshot_and_changes_nothing",),
    ),
    Mutant(
        name="revision-goes-back",
        harm="Readers that followed the table ignore everything until the revision is back where it was.",
        file=PUBLISH,
        text="if revision <= tonumber(stored) then",
        instead="if false then",
        found_by=(CONTRACT + "TestRevisions::test_a_snapshot_never_takes_the_revision_back",),
    ),
    Mutant(
        name="ttl-as-the-liveness-clock",
        harm="The job is away for two minutes, or Kafka is, and every table is gone.",
        file=PUBLISH,
        text="  redis.call('SADD', KEYS[6], request.service)\n",
        instead="  redis.call('SADD', KEYS[6], request.service)\n  redis.call('EXPIRE', KEYS[1], 90)\n",
        found_by=(CONTRACT + "TestRealServersFail::test_nothing_that_was_written_expires_by_itself",),
    ),
    Mutant(
        name="reader-misses-a-change",
        harm="A reader whose stream was trimmed goes on with a table that lacks what it missed.",
        file="waypost/client/table.py",
        text="if change.base != self.revision:",
        instead="if False:",
        found_by=(COPY + "TestChanges::test_a_delta_on_another_revision_asks_for_a_reread",),
    ),
    Mutant(
        name="reader-believes-an-older-table",
        harm="After a failover to a replica that is behind, a reader sends requests to instances that left.",
        file="waypost/client/table.py",
        text="if reading.revision < self.revision:",
        instead="if False:",
        found_by=(COPY + "TestReadings::test_an_older_table_is_refused",),
    ),
    Mutant(
        name="reader-believes-an-emptied-store",
        harm="A Redis that restarts empty empties the tables of every gateway.",
        file="waypost/client/table.py",
        text="if life and life == self._life:",
        instead="if True:",
        found_by=(COPY + "TestReadings::test_a_store_in_another_life_that_has_nothing_is_refused",),
    ),
)
