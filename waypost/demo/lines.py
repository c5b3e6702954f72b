"""What the processes of the demo tell each other: one JSON object per line, with the time it happened.

Times are seconds of the machine's monotonic clock, which all processes share and nobody sets; they can be subtracted
from each other, whoever took them.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeAlias

Line: TypeAlias = dict[str, Any]
"""`{"what": …, "at": …, and what belongs to it}`."""

Tell: TypeAlias = Callable[..., None]
"""`tell(what, **fields)`."""


def teller(fd: int) -> Tell:
    """Return a function that writes lines to a pipe which several processes may share.

    A short line is one `write`, which a pipe never tears apart. When nobody reads any more nothing is told.
    """

    def tell(what: str, **fields: Any) -> None:
        line = {"what": what, "at": time.monotonic(), **fields}
        with contextlib.suppress(BrokenPipeError):
            rest = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            while rest:
                rest = rest[os.write(fd, rest) :]

    return tell
