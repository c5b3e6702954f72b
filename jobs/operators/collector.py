"""Python's garbage collector, in a process that keeps millions of objects.

It looks for cycles of objects that nobody else holds; anything else is freed without it. A full collection goes through
all there is, with the interpreter locked: in a storm of 100,000 instances every task of the process stood still for up
to 1.9 s, four times a minute, and nothing was found (2026-11-23). So whatever has survived one full collection is left
alone by the next ones (`gc.freeze`). Cycles made of such objects stay until a task begins anew; the folds make none.
"""

from __future__ import annotations

import gc


def spare_what_stays() -> None:
    """Call when a task begins. What a former task has left behind goes with the next full collection."""
    gc.unfreeze()
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


def _freeze(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
