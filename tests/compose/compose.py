"""One docker-compose project, driven by compose 1 or 2.

The two differ in container names (`shop_kafka_1`, `shop-kafka-1`) and in what `ps` prints. So containers are
read from the engine by the labels both set, and every command used here exists in both.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.compose.engine import REMEDY, ContainerError, Engine, run, tail
from waypost.local.jars import cache_dir

ROOT = Path(__file__).parents[2]
KINDS = ("v2", "v1")


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """A compose that can be run: `v1` or `v2`, the words that start it, and its own version."""

    kind: str
    command: tuple[str, ...]
    version: str


def wanted_kinds(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return what WAYPOST_COMPOSE lists, both when it says nothing; unknown words are left for `implementation`."""
    return (environ.get("WAYPOST_COMPOSE") or " ".join(KINDS)).split()


def implementation(kind: str) -> Implementation:
    """Return the compose of that kind; raises `ContainerError` with the remedy when this machine has none."""
    for command in _candidates(kind):
        version = _version(command)
        if version is not None and version.startswith("1.") == (kind == "v1"):
            return Implementation(kind=kind, command=tuple(command), version=version)
    raise ContainerError(
        f"there is no docker-compose {kind} on this machine; {REMEDY}, or leave it out of WAYPOST_COMPOSE"
    )


def _candidates(kind: str) -> list[list[str]]:
    if kind == "v1":
        return [["docker-compose"], ["/usr/bin/docker-compose"]]
    if kind == "v2":
        # The plugin is what users have; the other is what scripts/containers.sh builds where there is none.
        pinned = re.search(r"docker/compose/v2 (v[\d.]+)", (ROOT / "scripts" / "compose" / "go.mod").read_text())
        assert pinned
        return [["docker", "compose"], [str(cache_dir() / f"docker-compose-{pinned[1]}" / "docker-compose")]]
    raise ContainerError(f"WAYPOST_COMPOSE names {kind!r}; it lists {', '.join(KINDS)}")


def _version(command: Sequence[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix("v") if done.returncode == 0 else None


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container of a project as the engine sees it. `health` is None when the image and file define no check."""

    id: str
    name: str
    service: str
    index: int
    state: str
    """created, running, paused, restarting, removing, exited or dead."""
    health: str | None
    """starting, healthy or unhealthy."""
    exit_code: int
    restarts: int
    ip: str | None
    """In the first of its networks; None when it does not run."""
    image: str
    restarts_itself: bool
    """Whether the file gives it any restart policy."""

    @property
    def is_good(self) -> bool:
        """Return whether it serves, or had one thing to do and did it."""
        if self.state == "running":
            return self.health in (None, "healthy")
        return self.state == "exited" and self.exit_code == 0

    @property
    def is_lost(self) -> bool:
        """Return whether it failed and nobody will start it again."""
        return self.state in ("exited", "dead") and self.exit_code != 0 and not self.restarts_itself


@dataclass(frozen=True, kw_only=True)
class Compose:
    """A project. `files` and `directory` are as on the command line; `variables` go into its environment."""

    implementation: Implementation
    engine: Engine
    project: str
    files: Sequence[Path] = (ROOT / "docker-compose.yml",)
    directory: Path = ROOT
    variables: Mapping[str, str] = field(default_factory=dict)
    profiles: Sequence[str] = ()

    def do(self, *arguments: str, timeout: float = 120.0) -> str:
        """Return what `docker-compose ARGUMENTS` printed; raises `ContainerError` with the end of its output."""
        command = [*self.implementation.command, "--project-name", self.project]
        command += ["--project-directory", str(self.directory)]
        for file in self.files:
            command += ["--file", str(file)]
        for profile in self.profiles:
            command += ["--profile", profile]
        environ = {**self.engine.environ, **self.variables}
        return run([*command, *arguments], environ=environ, cwd=self.directory, timeout=timeout)

    def config(self) -> str:
        """The files as compose understands them, variables filled in."""
        return self.do("config")

    def build(self, *services: str) -> str:
        return self.do("build", *services, timeout=1800.0)

    def up(self, *services: str, options: Sequence[str] = (), timeout: float = 600.0) -> str:
        """Create and start in the background; returns when compose does, which is not yet `wait`."""
        return self.do("up", "--detach", *options, *services, timeout=timeout)

    def down(self, *, volumes: bool = True) -> str:
        """Stop and remove everything of the project, its volumes as well unless told otherwise."""
        options = ["--volumes"] if volumes else []
        return self.do("down", "--remove-orphans", "--timeout", "20", *options, timeout=300.0)

    def exec(self, service: str, *command: str, index: int = 1, timeout: float = 60.0) -> str:
        """Return what the command printed inside the running container."""
        return self.do("exec", "-T", f"--index={index}", service, *command, timeout=timeout)

    def logs(self, *services: str, lines: int = 200) -> str:
        return self.do("logs", "--no-color", f"--tail={lines}", *services)

    def ps(self, service: str | None = None) -> list[Container]:
        """Return the project's containers, stopped ones too, by service and index; one-off runs are left out."""
        listed = ["ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        listed += ["--filter", "label=com.docker.compose.oneoff=False"]
        if service is not None:
            listed += ["--filter", f"label=com.docker.compose.service={service}"]
        ids = self.engine.docker(*listed).split()
        found = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return sorted((_container(each) for each in found), key=lambda c: (c.service, c.index))

    def one(self, service: str, index: int = 1) -> Container:
        """Return that container; raises `ContainerError` when the project has none."""
        for container in self.ps(service):
            if container.index == index:
                return container
        raise ContainerError(f"{self.project} has no container {index} of {service}")

    def wait(self, *services: str, ending: Sequence[str] = (), timeout: float = 180.0) -> list[Container]:
        """Return the containers as soon as all are good (see `Container.is_good`); all services when none is named.

        Those in `ending` have one thing to do and are good when they did it: nobody can tell from outside that one
        that still runs will fail.

        Raises `ContainerError` with what the others are and said, at once when one of them is lost. Compose 1 has
        no `up --wait`.
        """
        began = time.monotonic()
        while True:
            found = [c for c in self.ps() if not services or c.service in (*services, *ending)]
            late = [c for c in found if not c.is_good or (c.service in ending and c.state != "exited")]
            absent = {*services, *ending} - {c.service for c in found}
            if found and not late and not absent:
                return found
            waited = time.monotonic() - began
            if waited > timeout or any(c.is_lost for c in late):
                raise ContainerError(self._why(late, absent, waited))
            time.sleep(0.3)

    def _why(self, late: Sequence[Container], absent: set[str], waited: float) -> str:
        lines = [f"{self.project} is not up after {waited:.0f} s"]
        lines += [f"{name}: has no container" for name in sorted(absent)]
        for c in late:
            lines.append(
                f"{c.name}: {c.state}, health {c.health}, exit code {c.exit_code}, {c.restarts} restarts; it said:"
            )
            done = subprocess.run(
                ["docker", "logs", "--tail", "30", c.id],
                env=self.engine.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            lines.append(tail(done.stdout, 30))
        return "\n".join(lines)


def _container(seen: Mapping[str, Any]) -> Container:
    state, labels = seen["State"], seen["Config"]["Labels"]
    addresses = [network["IPAddress"] for _, network in sorted(seen["NetworkSettings"]["Networks"].items())]
    return Container(
        id=seen["Id"],
        name=seen["Name"].removeprefix("/"),
        service=labels["com.docker.compose.service"],
        index=int(labels["com.docker.compose.container-number"]),
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status"),
        exit_code=state["ExitCode"],
        restarts=seen["RestartCount"],
        ip=next(filter(None, addresses), None),
        image=seen["Config"]["Image"],
        restarts_itself=seen["HostConfig"]["RestartPolicy"]["Name"] not in ("", "no"),
    )
