"""Processes that cannot outlive their parent, however it dies.

The kernel ends them; where it cannot (not Linux), the end of their standard input does, see `nursery` and `caller`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with(parent: int) -> None:
    """Let this process be killed when the thread of `parent` that started it ends; end now when it has already.

    Not inherited by children: each asks for itself.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def live_on() -> None:
    """Take `die_with` back: from now on this process outlives its parent."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, 0)
