"""Bugs of isolation: who is kept out of a table by somebody's word, and for how long."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

WORDS = "waypost/model/isolation.py"
SERVICE = "waypost/model/service.py"
OPERATORS = "jobs/operators/isolations.py"
OF_WORDS = "tests/model/test_isolation.py::"
OF_SERVICE = "tests/model/test_isolated_service.py::"
OF_INDEX = "tests/jobs/test_isolations.py::"
OF_TABLES = "tests/jobs/test_isolated_tables.py::"

BUGS = (
    Mutant(
        name="repair-empties-a-table",
        harm="A false alarm about a node isolates the only endpoint of a service, and all callers get an empty table.",
        file=SERVICE,
        text="return None, _spared(isolation) if facts.is_routable(released) else spare",
        instead="return None, None if facts.is_routable(released) else spare",
        found_by=(
            OF_SERVICE + "test_a_repair_never_takes_the_last_endpoint_and_says_so",
            OF_TABLES + "test_a_repair_that_would_empty_the_table_is_refused_and_counted",
        ),
    ),
    Mutant(
        name="refused-repair-is-answered-as-applied",
        harm="The repair job believes that a node is out of all tables, and drains it.",
        file=SERVICE,
        text="a if a.request_id not in draft.refused else",
        instead="a if True else",
        found_by=(OF_SERVICE + "test_a_repair_never_takes_the_last_endpoint_and_says_so",),
    ),
    Mutant(
        name="operators-isolation-spares-the-last",
        harm="Somebody takes the last, broken endpoint out to end the harm it does, and it stays.",
        file=SERVICE,
        text="            if not isolation.spares_the_last:\n                return None, None\n",
        instead="",
        found_by=(OF_SERVICE + "test_an_operator_may_take_the_last_endpoint",),
    ),
    Mutant(
        name="isolation-without-end",
        harm="Nobody remembers the isolation of last week, and a tenth of the fleet gets no requests.",
        file=WORDS,
        text="is_over = self.verb is Verb.ISOLATE and self.expires_at <= now",
        instead="is_over = False",
        found_by=(
            OF_WORDS + "test_it_ends_by_itself_to_the_millisecond",
            OF_SERVICE + "test_it_ends_by_itself_and_says_so",
            OF_TABLES + "test_a_forgotten_isolation_ends_by_itself_to_the_millisecond",
        ),
    ),
    Mutant(
        name="isolation-ends-only-with-the-next-record",
        harm="An isolation is over, and its instance is out until somebody else of its service registers.",
        file="jobs/operators/routes.py",
        text="            ctx.timer_service().register_processing_time_timer(end)\n        live.isolated_until = end\n",
        instead="            pass\n        live.isolated_until = end\n",
        found_by=(OF_TABLES + "test_a_forgotten_isolation_ends_by_itself_to_the_millisecond",),
    ),
    Mutant(
        name="repair-ends-what-a-person-isolated",
        harm="The alert of a node is over, and the operator who took it out for two hours finds it full of requests.",
        file=WORDS,
        text="return self.scope, self.spares_the_last",
        instead="return self.scope, False",
        found_by=(OF_WORDS + "test_a_repair_ends_and_replaces_nobody_else_s_isolation",),
    ),
    Mutant(
        name="older-isolation-wins",
        harm="A record that is read again after a restore isolates who was released since.",
        file=WORDS,
        text="if before is not None and before.stamp >= word.stamp:",
        instead="if before is not None and before.stamp == word.stamp:",
        found_by=(
            OF_WORDS + "test_a_release_ends_it_and_an_older_one_does_not",
            OF_SERVICE + "test_what_becomes_of_each_word",
        ),
    ),
    Mutant(
        name="registration-ends-an-isolation",
        harm="A pod on the isolated node restarts, registers, and gets requests.",
        file=SERVICE,
        text='return words.of(instance, facts.effective_attributes.node if facts is not None else "")',
        instead=(
            'word = words.of(instance, facts.effective_attributes.node if facts is not None else "")\n'
            "        return None if word and facts is not None and facts.generation > word.stamp else word"
        ),
        found_by=(
            OF_SERVICE + "test_a_new_registration_does_not_end_an_isolation",
            OF_SERVICE + "test_who_registers_later_on_an_isolated_node_is_not_routable_and_who_moves_away_is",
        ),
    ),
    Mutant(
        name="later-service-is-not-told-of-the-node",
        harm="A service that never ran on the isolated node is scheduled there, and gets requests.",
        file="waypost/model/node_index.py",
        text="for word in self.words_about(node)]",
        instead="for word in []]",
        found_by=(OF_INDEX + "test_a_service_that_comes_to_the_node_later_is_told_once",),
    ),
    Mutant(
        name="node-index-forgets-with-a-restart",
        harm="After a restart an isolation of the node reaches no service that does not register anew.",
        file=OPERATORS,
        text="            self._pairs.add(encode_pairs(new))\n            self._blobs[shard] += 1\n",
        instead="            self._blobs[shard] += 1\n",
        found_by=(OF_INDEX + "test_a_restart_forgets_neither_who_is_where_nor_what_was_said",),
    ),
    Mutant(
        name="rebuild-forgets-who-is-isolated",
        harm="The job comes back from a savepoint and shows dead endpoints until it has read the isolations again.",
        file="waypost/model/service_state.py",
        text=" and self.isolations >= other.isolations",
        instead="",
        found_by=(
            "tests/model/test_service.py::test_a_fold_without_the_newest_isolation_is_behind",
            OF_TABLES + "test_a_rebuild_does_not_show_a_table_without_its_newest_isolation",
        ),
    ),
)
