"""A writer that was away comes back, and believes it is still the one."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables, eventually
from tests.e2e.test_route_job import assert_revisions_never_go_back, restarts, running_job
from waypost.flink.rest import FlinkRest
from waypost.local.state import Stack, load_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_task_manager_that_was_stopped_for_a_while_changes_nothing_when_it_goes_on(
    stack: Stack, log: LogWriter, tables: Tables
) -> None:
    rest = FlinkRest(url=stack.flink_rest)
    start = tables.last_change()
    log.register("fenced", "f0", 9801)
    tables.wait_for("fenced", "f0")
    job = eventually(lambda: running_job(stack))
    before = restarts(stack, job)
    epoch = tables.epoch("fenced")
    eventually(lambda: len(rest.task_managers()) == 2)
    [working] = rest.working()
    frozen = load_stack(stack.state_dir).parts[working.partition(".")[0]].pid

    # Some of these it may still have in its buffers when it goes on.
    log.storm("in-flight", services=5, instances=500)
    os.kill(frozen, signal.SIGSTOP)
    try:
        log.register("fenced", "f1", 9802)
        tables.wait_for("fenced", "f0", "f1")
        assert restarts(stack, job) > before
        assert tables.epoch("fenced") > epoch
        log.event("fenced", op="deregister", instance="f0")
        tables.wait_for("fenced", "f1")
    finally:
        os.kill(frozen, signal.SIGCONT)

    eventually(lambda: len(rest.task_managers()) == 2)  # it has seen that it is no longer needed
    log.register("fenced", "f2", 9803)
    tables.wait_for("fenced", "f1", "f2")
    assert running_job(stack) == job
    assert_revisions_never_go_back(tables, start)
