"""The files of a stack: what runs where, and what happened.

`stack.json` is written by the supervisor alone, whole or not at all; everybody else reads it.
`events.jsonl` is the supervisor's diary, followed by `waypost up` and `waypost submit`.
`requests/` is how a command asks the supervisor for something.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from waypost.errors import StackError
from waypost.flink.submission import JobRecord
from waypost.local.process import ProcessId

DEFAULT_STATE_DIR = Path(".waypost")
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Addresses and processes of one local stack."""

    state_dir: Path
    kafka_bootstrap: str
    kafka_controller_port: int
    redis_url: str
    flink_rest: str
    flink_rpc_port: int
    flink_blob_port: int
    task_managers: int
    gateway: str = "none"
    """`traefik`, `envoy` or `none`; the three addresses below belong to it."""
    gateway_url: str = ""
    gateway_admin: str = ""
    feed_url: str = ""
    supervisor: ProcessId | None = None
    parts: Mapping[str, ProcessId] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    job: JobRecord | None = None
    repair: JobRecord | None = None
    ready: bool = False
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Part → URL that Prometheus scrapes; empty without `waypost up --metrics`."""

    @property
    def is_up(self) -> bool:
        """The supervisor lives. Whether the parts are healthy is `status`'s question."""
        return self.supervisor is not None and self.supervisor.is_alive()

    def save(self) -> None:
        data: dict[str, Any] = {"version": _VERSION, **asdict(self), "state_dir": str(self.state_dir)}
        write_whole(self.state_dir / "stack.json", json.dumps(data, indent=2) + "\n")

    def stopped(self) -> Stack:
        """Return the record of the same stack with nothing running; the addresses are wanted again next time."""
        return replace(self, supervisor=None, parts={}, ready=False)


def load_stack(state_dir: Path | str = DEFAULT_STATE_DIR) -> Stack:
    """Return the stack recorded in a state directory, running or not.

    Raises `StackError` when there is none or it was written by another version.
    """
    directory = Path(state_dir).resolve()
    try:
        data = json.loads((directory / "stack.json").read_text())
    except FileNotFoundError:
        raise StackError(f"no stack in {directory}; start one with `waypost up`") from None
    except (OSError, ValueError) as error:
        raise StackError(f"{directory / 'stack.json'} cannot be read: {error}") from error
    if data.pop("version", None) != _VERSION:
        raise StackError(f"{directory} was written by another version; `waypost down --purge` clears it")
    supervisor, job, repair = data.pop("supervisor"), data.pop("job"), data.pop("repair", None)
    return Stack(
        **{
            **data,
            "state_dir": directory,
            "supervisor": ProcessId(**supervisor) if supervisor else None,
            "parts": {name: ProcessId(**process) for name, process in data["parts"].items()},
            "job": JobRecord.of(job) if job else None,
            "repair": JobRecord.of(repair) if repair else None,
        }
    )


def running_stack(state_dir: Path | str = DEFAULT_STATE_DIR) -> Stack:
    """Return the stack of a state directory; raises `StackError` when it does not run."""
    stack = load_stack(state_dir)
    if not stack.is_up:
        raise StackError(f"the stack in {stack.state_dir} is not running; start it with `waypost up`")
    return stack


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)
