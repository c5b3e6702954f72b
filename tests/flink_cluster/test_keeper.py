"""The rules of resubmission, with the cluster played by plain objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from waypost.flink.keeper import JobKeeper, SubmitRequest
from waypost.flink.rest import FlinkUnavailable, Job
from waypost.flink.submission import JobRecord, Snapshots, run_command

OLD = "0" * 31 + "1"
NEW = "0" * 31 + "2"


@dataclass
class FakeRest:
    listed: list[Job] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    away: bool = False
    cause: str | None = None
    stopped: list[str] = field(default_factory=list)

    def jobs(self) -> list[Job]:
        if self.away:
            raise FlinkUnavailable("away")
        return self.listed

    def task_managers(self) -> list[str]:
        return self.registered

    def why_failed(self, job_id: str) -> str | None:
        return self.cause

    def stop_with_savepoint(self, job_id: str, directory: str) -> str:
        self.stopped.append(job_id)
        return "request"

    def savepoint(self, job_id: str, request_id: str) -> str | None:
        self.listed = [j for j in self.listed if j.id != job_id]
        return "file:///savepoint"

    def cancel(self, job_id: str) -> None:
        self.listed = [j for j in self.listed if j.id != job_id]


@dataclass
class FakeCluster:
    generation: int = 1
    fresh: bool = True

    def replace_task_managers(self) -> None:
        self.generation += 1
        self.fresh = True

    def task_managers_are_fresh(self) -> bool:
        return self.fresh

    def fresh_task_managers(self) -> frozenset[str]:
        return frozenset({f"tm.{self.generation}"}) if self.fresh else frozenset()

    def task_managers_are_used(self) -> None:
        self.fresh = False


class FakeRun:
    """A `flink run` that is over at once."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.rest, self.cluster = FakeRest(), FakeCluster()
        self.now = 0.0
        self.lists_what_it_accepts = True
        self.commands: list[list[str]] = []
        self.reports: list[tuple[str, str, str | None]] = []
        self.answer: Callable[[], tuple[int, str]] = lambda: (0, f"Job has been submitted with JobID {NEW}")
        self.log = tmp_path / "submit.log"
        self.checkpoints = tmp_path / "checkpoints"
        self.keeper = JobKeeper(
            record=a_record("old"),
            flink=Path("flink"),
            stored=Snapshots(checkpoints=self.checkpoints, savepoints=tmp_path / "savepoints"),
            rest=self.rest,  # type: ignore[arg-type]
            cluster=self.cluster,
            addresses=("--set", "kafka.bootstrap=k"),
            start=self._start,  # type: ignore[arg-type]
            log=self.log,
            report=lambda *event: self.reports.append(event),
            clock=lambda: self.now,
        )

    def _start(self, command: list[str]) -> FakeRun:
        self.commands.append(command)
        code, output = self.answer()
        with self.log.open("a") as opened:
            opened.write(output + "\n")
        if code == 0 and self.lists_what_it_accepts:
            self.rest.listed.insert(0, a_running_job(NEW))
        return FakeRun(code)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            self.keeper.tick()

    def whats(self) -> list[str]:
        return [what for what, _, _ in self.reports]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def a_record(build: str) -> JobRecord:
    return JobRecord(name="waypost-route-table", module="jobs.route_table", zip=f"/{build}.zip", build=build)


def a_running_job(job_id: str = OLD, state: str = "RUNNING") -> Job:
    return Job(id=job_id, name="waypost-route-table", state=state, tasks_running=2, tasks_total=2)


def a_checkpoint(world: World, name: str = "chk-7") -> Path:
    directory = world.checkpoints / "waypost-route-table" / OLD / name
    directory.mkdir(parents=True)
    (directory / "_metadata").touch()
    os.utime(directory / "_metadata", (1, 1))
    return directory


def test_a_missing_job_is_submitted_once(world: World) -> None:
    world.run(10.0)

    assert len(world.commands) == 1
    assert world.keeper.record.id == NEW
    assert world.keeper.running


def test_a_job_just_accepted_may_be_listed_a_little_later(world: World) -> None:
    world.lists_what_it_accepts = False
    world.run(8.0)
    world.rest.listed = [a_running_job(NEW)]
    world.run(20.0)

    assert len(world.commands) == 1


def test_a_living_job_is_adopted_not_submitted(world: World) -> None:
    world.rest.listed = [a_running_job(OLD, "RESTARTING")]

    world.run(10.0)

    assert world.commands == []
    assert world.keeper.record.id == OLD


def test_a_job_manager_that_does_not_answer_is_no_missing_job(world: World) -> None:
    world.rest.away = True

    world.run(30.0)

    assert world.commands == []


def test_a_failed_job_resumes_from_the_newest_checkpoint_on_fresh_task_managers(world: World) -> None:
    world.rest.listed = [a_running_job()]
    world.run(2.0)
    checkpoint = a_checkpoint(world)

    world.rest.listed = [a_running_job(OLD, "FAILED")]
    world.run(2.0)

    assert world.cluster.generation == 2
    assert world.commands[0][world.commands[0].index("--fromSavepoint") + 1] == checkpoint.as_uri()


def test_a_job_that_keeps_restarting_is_explained_once(world: World) -> None:
    world.rest.listed = [Job(id=OLD, name="waypost-route-table", state="RESTARTING")]
    world.rest.cause = "Caused by: ValueError: no"

    world.run(20.0)

    assert [detail for what, detail, _ in world.reports if what == "failing"] == ["Caused by: ValueError: no"]


def test_nothing_is_submitted_while_an_ended_task_manager_is_listed(world: World) -> None:
    world.rest.registered = ["tm.0"]
    world.run(20.0)
    assert world.commands == []

    world.rest.registered = []
    world.run(2.0)

    assert len(world.commands) == 1


def test_a_submission_that_came_through_after_all_is_not_repeated(world: World) -> None:
    world.answer = lambda: (1, "java.util.concurrent.TimeoutException: no answer")
    world.run(1.0)
    assert len(world.commands) == 1

    world.rest.listed = [a_running_job(NEW)]
    world.run(60.0)

    assert len(world.commands) == 1
    assert world.keeper.running


def test_failed_submissions_are_tried_again_ever_more_slowly(world: World) -> None:
    world.answer = lambda: (31, "ValueError: broken")

    world.run(60.0)

    assert 4 <= len(world.commands) <= 7
    assert any("ValueError: broken" in detail for what, detail, _ in world.reports if what == "failed")


def test_a_request_replaces_the_job_with_its_state(world: World) -> None:
    world.rest.listed = [a_running_job()]
    world.run(2.0)
    a_checkpoint(world)

    world.keeper.ask(SubmitRequest(id="r", record=a_record("new")))
    world.run(3.0)

    assert world.rest.stopped == [OLD]
    assert "/new.zip" in world.commands[0]
    assert "--fromSavepoint" in world.commands[0]
    assert ("submitted", f"job {NEW}", "r") in world.reports
    assert world.cluster.generation == 2


def test_without_state_means_without(world: World) -> None:
    a_checkpoint(world)

    world.keeper.ask(SubmitRequest(id="r", record=a_record("new"), keep_state=False))
    world.run(3.0)

    assert "--fromSavepoint" not in world.commands[0]


def test_code_that_cannot_be_submitted_gives_way_to_the_old_build(world: World) -> None:
    world.rest.listed = [a_running_job()]
    world.run(2.0)
    answers = [(1, "ImportError: no"), (0, f"Job has been submitted with JobID {NEW}")]
    world.answer = lambda: answers.pop(0)

    world.keeper.ask(SubmitRequest(id="r", record=a_record("new")))
    world.run(4.0)

    assert ["/new.zip" in c for c in world.commands] == [True, False]
    assert "/old.zip" in world.commands[1]
    assert any(what == "failed" and request == "r" for what, _, request in world.reports)


def test_a_second_request_meanwhile_is_refused(world: World) -> None:
    world.keeper.ask(SubmitRequest(id="a", record=a_record("new")))
    world.keeper.ask(SubmitRequest(id="b", record=a_record("newer")))

    assert ("refused", "another submission is under way", "b") in world.reports


def test_the_users_settings_come_after_the_stacks_own(world: World) -> None:
    record = JobRecord(name="n", module="jobs.n", zip="/z", build="b", arguments=("--set", "kafka.bootstrap=mine"))

    command = run_command(
        Path("flink"), record, addresses=("--set", "kafka.bootstrap=ours"), checkpoints=Path("/c"), snapshot=None
    )

    assert command[-4:] == ["--set", "kafka.bootstrap=ours", "--set", "kafka.bootstrap=mine"]
