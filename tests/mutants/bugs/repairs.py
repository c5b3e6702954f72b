"""Bugs of repairs: more than one effect, the wrong one, or one that nobody takes back."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

STEPS = "waypost/repair/steps/"
EXECUTOR = "waypost/repair/executor.py"
BUDGET = "jobs/operators/budget.py"
TAKING_BACK = "waypost/model/taking_back.py"
OF_TAKING_BACK = "tests/model/test_taking_back.py::"
OF_PODS = "tests/repair/test_pods.py::"
OF_NODES = "tests/repair/test_nodes.py::"
OF_JOB = "tests/jobs/test_repairs.py::"

BUGS = (
    Mutant(
        name="first-of-two-alerts-takes-back",
        harm="A dead node has two alerts. One of them ends, and pods and requests go to it again.",
        file=TAKING_BACK,
        text="if other.phase is Phase.RESOLVED or now >= other.stale_at or _subject(other) != _subject(ended):",
        instead="if True:",
        found_by=(OF_TAKING_BACK + "test_of_two_alerts_of_a_node_the_last_takes_back",),
    ),
    Mutant(
        name="failed-undo-is-final",
        harm="The API server is away when the alert ends: the node stays cordoned for ever.",
        file=TAKING_BACK,
        text="        if outcome is Outcome.SUCCEEDED:\n",
        instead="        if True:\n",
        found_by=(OF_TAKING_BACK + "test_what_could_not_be_taken_back_is_asked_for_again_and_later_each_time",),
    ),
    Mutant(
        name="approved-notification-restarts",
        harm="A person approves a notification, the policies are replaced, and the workload is restarted.",
        file="waypost/model/repair.py",
        text="(word.action_id, word.plan) == (action.id, action.plan)",
        instead="word.action_id == action.id",
        found_by=(
            "tests/model/test_alert_processor.py::test_an_approval_is_for_what_was_asked_and_no_other_policy_s_steps",
        ),
    ),
    Mutant(
        name="eviction-forgets-its-claim",
        harm="The job dies after an eviction: the StatefulSet's next pod of that name is evicted as well.",
        file=STEPS + "evict.py",
        text="claimed = claim_of(workload.annotations, turn.claim)",
        instead="claimed = None",
        found_by=(OF_PODS + "test_a_replay_from_before_any_turn_evicts_nobody_twice",),
    ),
    Mutant(
        name="restart-forgets-its-claim",
        harm="The job dies after a restart, another repair follows, and the service is restarted twice.",
        file=STEPS + "workloads.py",
        text="if claim_of(workload.annotations, turn.claim) is not None:",
        instead="if False:",
        found_by=("tests/repair/test_workloads.py::test_a_replay_changes_nothing_even_behind_another_repair",),
    ),
    Mutant(
        name="switch-is-asked-at-the-beginning-of-a-turn-only",
        harm="Somebody pauses all repairs while a slow API server is asked what there is, and a pod is evicted.",
        file="waypost/repair/switched.py",
        text="        if reason is not None:\n",
        instead="        if False:\n",
        found_by=("tests/repair/test_switched.py::test_nothing_is_changed_once_it_is_off_however_slow_the_server_is",),
    ),
    Mutant(
        name="somebody-else-s-cordon-is-taken-back",
        harm="An alert ends, and a node that people had taken out of service gets pods.",
        file=STEPS + "nodes.py",
        text="if CORDONED_BY not in node.annotations or not _is_for(node, turn.action):",
        instead="if False:",
        found_by=(OF_NODES + "TestPeople::test_somebody_else_s_cordon_is_not_ours",),
    ),
    Mutant(
        name="a-cordon-is-forgotten-by-a-crash",
        harm="A node is cordoned, the job dies, the alert ends: nobody ever takes the cordon back.",
        file=EXECUTOR,
        text="        if not begun:",
        instead="        if True:",
        found_by=(OF_NODES + "TestUndo::test_a_cordon_that_lost_its_state_is_not_forgotten",),
    ),
    Mutant(
        name="excluded-services-are-drained",
        harm="The last healthy pod of a service goes with its node.",
        file=STEPS + "drain.py",
        text="        and (pod.namespace, pod.name) not in spared\n",
        instead="",
        found_by=(OF_NODES + "TestExcluded::test_the_pods_of_an_excluded_service_stay_and_its_table_too",),
    ),
    Mutant(
        name="any-pod-of-the-namespace-is-evicted",
        harm="A label in an alert names a pod of another service, and it is evicted.",
        file=STEPS + "evict.py",
        text="if not belongs(turn.cluster, ServiceKey(*target), pod, workload):",
        instead="if False:",
        found_by=(OF_PODS + "test_a_pod_of_another_service_is_not_evicted",),
    ),
    Mutant(
        name="granted-before-the-tables-are-read",
        harm="The job starts: a node is emptied because nobody is known to be on it.",
        file=BUDGET,
        text="if found.domains and self._now < self._settled_at:",
        instead="if False:",
        found_by=(OF_JOB + "TestTables::test_nothing_is_granted_before_the_tables_are_read",),
    ),
    Mutant(
        name="unreadable-configuration-is-taken-for-news",
        harm="Kafka does not answer: nobody knows whether repairs are paused, and they go on.",
        file="waypost/repair/configuration.py",
        text='            log.warning("the configuration cannot be read: %s", error)\n            return',
        instead="            reading = Reading(False, ())",
        found_by=("tests/repair/test_configuration.py::test_what_cannot_be_read_is_unknown_after_ten_seconds",),
    ),
)
