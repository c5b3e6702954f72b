"""docker-compose.yml as users bring it up, by each compose: the whole fleet, and what dies in it.

The tests run in the order in which they stand here, on one cluster per compose; each leaves it whole. What does not
depend on compose (how the job survives its servers) runs with the first one only.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from tests.compose.compose import Compose, Container, Implementation, wanted_kinds
from tests.compose.engine import Engine, Say
from waypost.client.keys import Keys
from waypost.flink.rest import FlinkRest, FlinkUnavailable, Job
from waypost.local.ports import free_ports
from waypost.model.names import ServiceKey

HERE = Path(__file__).parent
LEASE_S = 6
"""Of the demo application here: short, because a test waits for it."""
PATIENCE_S = 300.0
"""Ten times what the slowest of these steps takes on two cores."""
PROVIDERS = ServiceKey("default", "data-provider")
OURS = {"topics", "witness", "jobmanager", "taskmanager", "route-job", "provider", "consumer-1", "consumer-2"}
FLEET = Counter(
    {
        "kafka": 1,
        "valkey": 1,
        "topics": 1,
        "jobmanager": 1,
        "taskmanager": 2,
        "route-job": 1,
        "witness": 2,
        "provider": 3,
        "consumer-1": 1,
        "consumer-2": 1,
    }
)

T = TypeVar("T")

first_compose_only = pytest.mark.parametrize("compose_command", wanted_kinds()[:1], indirect=True, scope="session")


@dataclass(frozen=True)
class Cluster:
    """A running project and the ports it was given on this machine."""

    compose: Compose
    ports: dict[str, int]

    @property
    def flink(self) -> FlinkRest:
        return FlinkRest(url=f"http://127.0.0.1:{self.ports['FLINK_PORT']}")

    def table(self) -> set[str]:
        """Return the instance ids in the providers' table, as any gateway reads it."""
        with redis.Redis(port=self.ports["REDIS_PORT"], decode_responses=True) as client:
            return set(client.hkeys(Keys().route(PROVIDERS)))  # type: ignore[arg-type]

    def providers(self) -> dict[str, Container]:
        """Return the running providers by instance id, which is the container's host name."""
        return {c.id[:12]: c for c in self.compose.ps("provider") if c.state == "running"}

    def fetch(self, consumer: int = 1) -> tuple[int, dict[str, Any]]:
        """Return status and body of one GET /fetch."""
        url = f"http://127.0.0.1:{self.ports[f'CONSUMER_{consumer}_PORT']}/fetch"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def engine_does(self, verb: str, container: Container) -> None:
        self.compose.engine.docker(verb, container.id)


@dataclass
class Caller:
    """Calls a consumer all the time, and keeps when each call began and what came of it."""

    cluster: Cluster
    calls: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Caller:
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._done.wait(0.05):
            began = time.monotonic()
            self.calls.append((began, *self.cluster.fetch()))

    def failed(self, since: float = 0.0) -> list[dict[str, Any]]:
        return [body for began, status, body in list(self.calls) if began >= since and status != 200]

    def answered(self, since: float = 0.0) -> int:
        return sum(1 for began, status, _ in list(self.calls) if began >= since and status == 200)


def eventually(what: str, happens: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """Return what `happens` returns as soon as that is something; a server that is away counts as not yet."""
    deadline = time.monotonic() + within_s
    seen: object = None
    while time.monotonic() < deadline:
        try:
            seen = happens()
        except (OSError, redis.RedisError, FlinkUnavailable) as error:
            seen = error
        else:
            if seen:
                return seen
        time.sleep(0.2)
    pytest.fail(f"not within {within_s:.0f} s: {what} (last seen: {seen!r})")


@pytest.fixture(scope="module")
def cluster(
    engine: Engine, base_images: dict[str, str], compose_command: Implementation, say: Say
) -> Iterator[Cluster]:
    names = ["KAFKA_PORT", "REDIS_PORT", "FLINK_PORT", "CONSUMER_1_PORT", "CONSUMER_2_PORT"]
    ports = dict(zip(names, free_ports([None] * len(names)), strict=True))
    ours = {
        f"WAYPOST_{part}IMAGE": f"waypost.invalid/under-test/{name}:latest"
        for part, name in (
            ("", "waypost"),
            ("FLINK_", "flink"),
            ("PROVIDER_", "provider"),
            ("CONSUMER_", "consumer"),
        )
    }
    compose = Compose(
        implementation=compose_command,
        engine=engine,
        project=f"waypost-test-{compose_command.kind}",
        files=(Compose.files[0], HERE / "host-network.yml"),
        variables={
            **base_images,
            **ours,
            **{name: str(port) for name, port in ports.items()},
            "LEASE_SECONDS": str(LEASE_S),
            "DRAIN_SECONDS": "3",
            "ENVIRONMENT": "test",
        },
    )
    compose.down()  # of a run that was killed
    say(f"building our images with compose {compose_command.version}")
    for service in ("topics", "provider", "consumer-1", "jobmanager"):
        compose.build(service)  # one after the other: without BuildKit each would build the common stages for itself
    say("starting the cluster")
    began = time.monotonic()
    try:
        compose.up()
        compose.wait(ending=["topics"], timeout=2 * PATIENCE_S)
        say(f"every container is healthy after {time.monotonic() - began:.0f} s")
        yield Cluster(compose, ports)
    finally:
        compose.down()


def test_the_whole_fleet_is_there(cluster: Cluster) -> None:
    containers = cluster.compose.ps()

    assert Counter(c.service for c in containers) == FLEET
    assert all(c.is_good for c in containers)


def test_the_job_runs_with_a_standby_beside_it(cluster: Cluster) -> None:
    [job] = cluster.flink.jobs()

    assert job.name == "waypost-route-table"
    assert job.is_running
    assert len(cluster.flink.task_managers()) == 2


def test_our_containers_may_do_next_to_nothing(cluster: Cluster) -> None:
    for container in cluster.compose.ps():
        [seen] = json.loads(cluster.compose.engine.docker("inspect", container.id))
        # Bound to loopback, whoever made the image.
        for bindings in seen["HostConfig"]["PortBindings"].values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, container.name
        if container.service in OURS:
            assert seen["Config"]["User"] == "10001:10001", container.name
            assert seen["HostConfig"]["ReadonlyRootfs"], container.name
            assert seen["HostConfig"]["CapDrop"] == ["ALL"], container.name
            assert "no-new-privileges:true" in seen["HostConfig"]["SecurityOpt"], container.name


def test_both_consumers_reach_every_provider_by_the_route_table(cluster: Cluster) -> None:
    eventually("three providers in the table", lambda: cluster.table() == set(cluster.providers()))

    for consumer in (1, 2):
        answers = [cluster.fetch(consumer) for _ in range(60)]

        assert {status for status, _ in answers} == {200}
        assert {body["data"]["source"] for _, body in answers} == set(cluster.providers())
        assert all(body["status"] == "success" and body["version"] == "v1.0.0" for _, body in answers)


def test_a_provider_says_what_it_is(cluster: Cluster) -> None:
    instance, provider = next(iter(cluster.providers().items()))
    ask = "import json, urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/{}').read().decode())"

    answers = {
        path: json.loads(cluster.compose.exec("provider", "python3", "-c", ask.format(path), index=provider.index))
        for path in ("info", "data", "health")
    }

    assert answers == {
        "info": {"service_name": "data-provider", "host": instance, "port": "8080", "version": "v1.0.0"},
        "data": {"message": "Hello from provider service", "source": instance},
        "health": {"status": "healthy"},
    }


def test_a_stopped_provider_leaves_the_table_first_and_nobody_notices(cluster: Cluster) -> None:
    instance, provider = next(iter(cluster.providers().items()))

    with Caller(cluster) as caller:
        eventually("calls are made", lambda: caller.answered() > 10)
        cluster.engine_does("stop", provider)
        gone = cluster.table()
        since = time.monotonic()
        eventually("calls go on", lambda: caller.answered(since) > 20)

    assert instance not in gone
    assert caller.failed() == []
    assert cluster.compose.one("provider", provider.index).exit_code == 0

    cluster.engine_does("start", provider)
    eventually("it is back", lambda: instance in cluster.table())


def test_a_killed_provider_is_out_of_the_table_after_its_lease(cluster: Cluster) -> None:
    instance, provider = next(iter(cluster.providers().items()))

    with Caller(cluster) as caller:
        eventually("calls are made", lambda: caller.answered() > 10)
        cluster.engine_does("kill", provider)
        eventually("only the living are in the table", lambda: cluster.table() == set(cluster.providers()))
        since = time.monotonic()
        eventually("calls go on", lambda: caller.answered(since) > 50)

    assert instance not in cluster.table()
    assert caller.failed(since) == []

    cluster.engine_does("start", provider)
    eventually("it is back", lambda: cluster.table() == set(cluster.providers()) and len(cluster.providers()) == 3)


@first_compose_only
def test_the_job_survives_the_taskmanager_it_runs_on(cluster: Cluster) -> None:
    job = eventually("the job runs", lambda: _running_job(cluster))
    working = _working_task_manager(cluster)

    with Caller(cluster) as caller:
        cluster.engine_does("kill", working)
        eventually("the job runs elsewhere", lambda: _runs(cluster, job.id) and _works_elsewhere(cluster, working))
        _a_change_is_still_published(cluster)

    assert caller.failed() == []
    cluster.engine_does("start", working)
    cluster.compose.wait(timeout=PATIENCE_S)


@first_compose_only
def test_the_job_is_resumed_after_the_jobmanager_died(cluster: Cluster) -> None:
    before = eventually("the job runs", lambda: _running_job(cluster))
    manager = cluster.compose.one("jobmanager")

    with Caller(cluster) as caller:
        cluster.engine_does("kill", manager)
        cluster.engine_does("start", manager)
        after = eventually("a job runs again", lambda: _running_job(cluster))
        assert after.id != before.id
        assert f"from {before.id}/chk-" in cluster.compose.logs("route-job")
        _a_change_is_still_published(cluster)

    assert caller.failed() == []
    cluster.compose.wait(timeout=PATIENCE_S)


@first_compose_only
def test_an_emptied_valkey_is_filled_again_and_consumers_go_on_meanwhile(cluster: Cluster) -> None:
    valkey = cluster.compose.one("valkey")
    expected = cluster.table()

    with Caller(cluster) as caller:
        cluster.engine_does("kill", valkey)
        since = time.monotonic()
        eventually("calls go on without it", lambda: caller.answered(since) > 20)
        cluster.engine_does("start", valkey)
        eventually("the table is back", lambda: cluster.table() == expected)

    assert caller.failed() == []
    cluster.compose.wait(timeout=PATIENCE_S)


def test_down_leaves_nothing(cluster: Cluster) -> None:
    docker = cluster.compose.engine.docker
    label = f"label=com.docker.compose.project={cluster.compose.project}"

    cluster.compose.down()

    assert docker("ps", "--all", "--quiet", "--filter", label).split() == []
    assert docker("volume", "ls", "--quiet", "--filter", label).split() == []
    assert docker("network", "ls", "--quiet", "--filter", label).split() == []


def _running_job(cluster: Cluster) -> Job | None:
    return next((job for job in cluster.flink.jobs() if job.is_running), None)


def _runs(cluster: Cluster, job_id: str) -> bool:
    job = _running_job(cluster)
    return job is not None and job.id == job_id


def _working_task_manager(cluster: Cluster) -> Container:
    [working] = _working_task_managers(cluster)
    return working


def _works_elsewhere(cluster: Cluster, before: Container) -> bool:
    return [working.id != before.id for working in _working_task_managers(cluster)] == [True]


def _working_task_managers(cluster: Cluster) -> list[Container]:
    """Return the containers whose TaskManagers have no free slot; their ids begin with the containers' host names."""
    containers = {c.id[:12]: c for c in cluster.compose.ps("taskmanager") if c.state == "running"}
    names = [manager.partition("-")[0] for manager in cluster.flink.working()]
    return [containers[name] for name in names if name in containers]


def _a_change_is_still_published(cluster: Cluster) -> None:
    """A provider that leaves and comes back does so in the table."""
    instance, provider = next(iter(cluster.providers().items()))
    cluster.engine_does("stop", provider)
    eventually("it left the table", lambda: instance not in cluster.table())
    cluster.engine_does("start", provider)
    eventually("it is back", lambda: instance in cluster.table())
