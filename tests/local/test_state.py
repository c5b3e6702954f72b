from dataclasses import replace
from pathlib import Path

import pytest

from waypost.errors import StackError
from waypost.local.process import ProcessId
from waypost.local.state import JobRecord, Stack, load_stack, running_stack


def a_stack(state_dir: Path) -> Stack:
    return Stack(
        state_dir=state_dir.resolve(),
        kafka_bootstrap="127.0.0.1:1",
        kafka_controller_port=2,
        redis_url="redis://127.0.0.1:3/0",
        flink_rest="http://127.0.0.1:4",
        flink_rpc_port=5,
        flink_blob_port=6,
        task_managers=2,
        supervisor=ProcessId(pid=1, started=-1),
        parts={"kafka": ProcessId(pid=2, started=3)},
        restarts={"kafka": 1},
        job=JobRecord(name="j", module="jobs.j", zip="/z", build="b", arguments=("--set", "a=1")),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    stack = a_stack(tmp_path)

    stack.save()

    assert load_stack(tmp_path) == stack
    replace(stack, supervisor=None, job=None).save()
    assert load_stack(tmp_path) == replace(stack, supervisor=None, job=None)


def test_a_missing_stack_names_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="waypost up"):
        load_stack(tmp_path)


def test_a_stack_whose_supervisor_is_gone_does_not_run(tmp_path: Path) -> None:
    a_stack(tmp_path).save()

    with pytest.raises(StackError, match="not running"):
        running_stack(tmp_path)


def test_a_torn_file_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"version": 1,')

    with pytest.raises(StackError, match="cannot be read"):
        load_stack(tmp_path)
