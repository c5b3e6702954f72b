"""Both compose implementations do the same with a file, seen through `Compose`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.compose import Compose, Implementation
from tests.compose.engine import ContainerError, Engine

CLUSTER = """
services:
  table:
    image: ${VALKEY_IMAGE}
    command: ["--save", ""]
    healthcheck:
      test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6379"]
      interval: 1s
    volumes: ["rows:/data"]
  once:
    image: ${VALKEY_IMAGE}
    command: ["bash", "-c", "echo did it; exit ${STATUS:-0}"]
    depends_on:
      table: {condition: service_healthy}
volumes:
  rows: {}
"""


@pytest.fixture
def project(
    engine: Engine, base_images: dict[str, str], compose_command: Implementation, tmp_path: Path
) -> Iterator[Compose]:
    file = tmp_path / "docker-compose.yml"
    file.write_text(CLUSTER)
    compose = Compose(
        implementation=compose_command,
        engine=engine,
        project=f"waypost-test-{compose_command.kind}",
        files=[file],
        directory=tmp_path,
        variables=base_images,
    )
    yield compose
    compose.down()


def test_a_project_comes_up_is_seen_and_leaves_nothing(project: Compose, base_images: dict[str, str]) -> None:
    assert base_images["VALKEY_IMAGE"] in project.config()

    project.up(options=["--scale", "table=2"])
    found = project.wait(ending=["once"])

    assert [(c.service, c.index, c.state, c.health) for c in found] == [
        ("once", 1, "exited", None),
        ("table", 1, "running", "healthy"),
        ("table", 2, "running", "healthy"),
    ]
    assert found[0].ip is None
    assert found[1].ip
    assert project.one("table", 2).image == base_images["VALKEY_IMAGE"]
    assert project.exec("table", "hostname", "-i", index=2).strip() == found[2].ip
    assert "did it" in project.logs("once")

    project.down()
    assert project.ps() == []
    assert project.project not in project.engine.docker("volume", "ls")
    assert project.project not in project.engine.docker("network", "ls")


def test_what_does_not_come_up_says_what_it_said(project: Compose) -> None:
    failing = Compose(**{**vars(project), "variables": {**project.variables, "STATUS": "3"}})
    failing.up()

    with pytest.raises(ContainerError, match=r"(?s)once.*exited.*exit code 3.*did it"):
        failing.wait(ending=["once"])


def test_an_error_shows_what_compose_printed(project: Compose) -> None:
    with pytest.raises(ContainerError, match=r"(?i)no such service: nobody"):
        project.do("start", "nobody")
