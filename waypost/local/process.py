"""Start processes that cannot outlive their supervisor, and find and end those that did.

Three nets, because each has a hole: the kernel kills a child when its parent dies (not its
grandchildren); every part leads its own process group (not what leaves it); and every process of a
stack carries the state directory in its environment, which `belonging_to` finds in /proc. A pid alone
is never trusted: it is compared with the start time, so a recycled one is left in peace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TAG = "WAYPOST_MEMBER_OF_STACK"
"""Environment variable carried by every process of a stack."""
GUEST = "WAYPOST_GUEST_OF"
"""Carried, beside `TAG`, by programs that use a stack and must say goodbye to it before it stops (the demo's fleet)."""

_PR_SET_PDEATHSIG = 1
# Loaded here, not between fork and exec, where only little may be done.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """One process, told apart from a later one with the same pid by its start time (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Return the identity of a running process, None when there is none (zombies count as gone)."""
        try:
            # The command name may contain spaces and parentheses: count fields after the last one.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in ("Z", "X"):
            return None
        return cls(pid=pid, started=int(fields[19]))

    def is_alive(self) -> bool:
        """Return whether exactly this process still runs."""
        return ProcessId.of(self.pid) == self


def spawn(
    command: Sequence[str],
    *,
    state_dir: Path,
    log: Path,
    environ: Mapping[str, str] | None = None,
    death_signal: signal.Signals | None = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a command in its own session, its output appended to `log`.

    `death_signal` is what the kernel sends it when the thread that called us ends; call from the
    main thread. Its working directory is the state directory, so that stray files end up there.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, **(environ or {}), TAG: str(state_dir)}
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=state_dir,
            start_new_session=True,
            preexec_fn=_die_with_parent(os.getpid(), death_signal) if death_signal else None,
        )


def _die_with_parent(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def between_fork_and_exec() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return between_fork_and_exec


def belonging_to(state_dir: Path, *, variable: str = TAG) -> list[ProcessId]:
    """Return every process of this user whose environment names `state_dir`, without the caller's own line.

    Finds what a crashed supervisor left behind without its having written anything down.
    """
    needle = f"{variable}={state_dir}".encode()
    own = _ancestry(os.getpid())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                identity = ProcessId.of(int(entry.name))
                if identity is not None:
                    found.append(identity)
    return found


def end(processes: Iterable[ProcessId], *, grace: float = 5.0) -> None:
    """Ask the processes (and the groups they lead) to end, and kill those still there after `grace` seconds.

    Returns when all are gone; one that its parent has not reaped yet counts as gone.
    """
    waiting = [p for p in processes if p.is_alive()]
    for p in waiting:
        send(p, signal.SIGTERM)
    deadline = time.monotonic() + grace
    killed = False
    while True:
        waiting = [p for p in waiting if p.is_alive()]
        if not waiting:
            return
        if not killed and time.monotonic() >= deadline:
            killed = True
            for p in waiting:
                send(p, signal.SIGKILL)
        time.sleep(0.02)


def send(process: ProcessId, sig: signal.Signals) -> None:
    """Send a signal to the process and, when it leads a group, to the whole group. A gone process is no error."""
    if not process.is_alive():
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, sig)
        else:
            os.kill(process.pid, sig)


def _ancestry(pid: int) -> set[int]:
    line: set[int] = set()
    while pid > 1 and pid not in line:
        line.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line
