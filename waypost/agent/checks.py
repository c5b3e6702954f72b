"""How the agent looks whether an instance lives: which check it was given, and the probe that does it.

    {"tcp":{}}                          somebody accepts a connection at its address and port; the default
    {"http":{"path":"/healthz"}}        a GET is answered with 200 to 299
    {"grpc":{"service":""}}             grpc.health.v1 says SERVING
    {"exec":{"command":["/bin/ok"]}}    the program ends with status 0; only where the agent was told to allow it
    {"none":{}}                         nobody looks: it is taken to live as long as it is registered

Each takes `"port"` (but exec and none) where another port than the instance's own answers, and all but none take
`"timeout"` and `"interval"`, in seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from waypost.client.health_checks import INTERVAL, TIMEOUT, GrpcProbe, HttpProbe, Probe, TcpProbe
from waypost.client.registry.instance import Instance
from waypost.errors import DecodeError
from waypost.wire.attributes import read_port
from waypost.wire.fields import as_list, as_object, as_text, required

KINDS = ("tcp", "http", "grpc", "exec", "none")
MAX_COMMAND = 64
SHORTEST, LONGEST = 0.1, 3_600.0
"""Bounds of an interval in seconds. Looking more often than ten times a second tells nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How to look at one instance. `port` 0: the instance's own."""

    kind: str = "tcp"
    port: int = 0
    path: str = "/healthz"
    service: str = ""
    command: tuple[str, ...] = ()
    timeout: timedelta = TIMEOUT
    interval: timedelta = INTERVAL

    @property
    def looks(self) -> bool:
        """Whether anybody looks at all."""
        return self.kind != "none"


TCP = Check()


def read_check(item: Any) -> Check:
    """Read a check. Raises DecodeError."""
    doc = as_object("check", item)
    kinds = [name for name in doc if name in KINDS]
    if len(kinds) != 1 or len(doc) != 1:
        raise DecodeError("unknown-check", f"a check has one field, one of {', '.join(KINDS)}")
    kind = kinds[0]
    said = as_object(kind, doc[kind])
    allowed = {
        "tcp": {"port", "timeout", "interval"},
        "http": {"port", "timeout", "interval", "path"},
        "grpc": {"port", "timeout", "interval", "service"},
        "exec": {"timeout", "interval", "command"},
        "none": set[str](),
    }[kind]
    unknown = sorted(said.keys() - allowed)
    if unknown:
        raise DecodeError("unknown-field", f"a check of kind {kind} takes no {', '.join(unknown)}")
    fields: dict[str, Any] = {}
    if said.get("port") is not None:
        fields["port"] = read_port(said["port"])
    if said.get("path") is not None:
        fields["path"] = _path(said["path"])
    if said.get("service") is not None:
        fields["service"] = as_text("service", said["service"], 127)
    if kind == "exec":
        fields["command"] = _command(required(said, "command"))
    if said.get("timeout") is not None:
        fields["timeout"] = _seconds("timeout", said["timeout"], 60.0)
    if said.get("interval") is not None:
        fields["interval"] = _seconds("interval", said["interval"], LONGEST)
    return Check(kind=kind, **fields)


def check_document(check: Check) -> dict[str, Any]:
    """Write a check so that `read_check` gives it back."""
    if not check.looks:
        return {"none": {}}
    said: dict[str, Any] = {"timeout": check.timeout.total_seconds(), "interval": check.interval.total_seconds()}
    if check.port:
        said["port"] = check.port
    if check.kind == "http":
        said["path"] = check.path
    elif check.kind == "grpc":
        said["service"] = check.service
    elif check.kind == "exec":
        said["command"] = list(check.command)
    return {check.kind: said}


def probe_of(check: Check) -> Probe:
    """Return what looks. Raises SettingsError where a library is missing."""
    if check.kind == "exec":
        return ExecProbe(check.command, check.timeout)
    probe: Probe
    if check.kind == "http":
        probe = HttpProbe(path=check.path, timeout=check.timeout)
    elif check.kind == "grpc":
        probe = GrpcProbe(service=check.service, timeout=check.timeout)
    else:
        probe = TcpProbe(timeout=check.timeout)
    return _AtPort(probe, check.port) if check.port else probe


@dataclass(frozen=True, slots=True)
class _AtPort:
    """Looks at another port than the instance's own."""

    probe: Probe
    port: int

    def __call__(self, instance: Instance) -> bool:
        return self.probe(replace(instance, port=self.port))


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """A program ends with status 0 in time. It gets no shell, no input, and says nothing; it may read whom it is
    about from WAYPOST_SERVICE, WAYPOST_INSTANCE, WAYPOST_ADDRESS and WAYPOST_PORT."""

    command: tuple[str, ...]
    timeout: timedelta

    def __call__(self, instance: Instance) -> bool:
        about = {
            "WAYPOST_SERVICE": instance.name,
            "WAYPOST_INSTANCE": instance.id,
            "WAYPOST_ADDRESS": instance.address,
            "WAYPOST_PORT": str(instance.port),
        }
        try:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **about},
                start_new_session=True,
            )
        except (OSError, ValueError):
            return False
        try:
            return process.wait(self.timeout.total_seconds()) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            # What it has started ends with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _path(item: Any) -> str:
    path = as_text("path", item, 1_024)
    if not path.startswith("/") or " " in path or not path.isascii():
        raise DecodeError("bad-path", "a path begins with / and has no spaces")
    return path


def _command(item: Any) -> tuple[str, ...]:
    words = as_list("command", item)
    if not 1 <= len(words) <= MAX_COMMAND:
        raise DecodeError("bad-command", f"a command has 1 to {MAX_COMMAND} words")
    found = tuple(as_text("a word of command", word, 4_096) for word in words)
    if not found[0].startswith("/"):
        raise DecodeError("bad-command", "a command begins with the whole path of a program")
    return found


def _seconds(name: str, item: Any, most: float) -> timedelta:
    if type(item) not in (int, float) or not SHORTEST <= item <= most:
        raise DecodeError(f"bad-{name}", f"{name} is in seconds, from {SHORTEST:g} to {most:g}")
    return timedelta(seconds=item)
