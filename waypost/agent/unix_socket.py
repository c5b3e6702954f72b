"""The unix socket the agent listens on: taken over from an agent that was killed, never from one that lives."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from waypost.errors import SettingsError

BACKLOG = 256


@contextlib.contextmanager
def listen_unix(path: Path, mode: int) -> Iterator[socket.socket]:
    """Listen on a path with these permissions, and remove it in the end. Raises SettingsError.

    Whoever may connect may register and deregister, so the permissions are set before anybody can.
    """
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        inode = path.stat().st_ino
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {path}: {error.strerror or error}") from error
    try:
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:  # or it is somebody else's by now
                path.unlink()


def _clear(path: Path) -> None:
    """Remove what a killed agent left. Raises SettingsError for anything that is not that."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"{path} is there and no socket: say another --service-registry")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise SettingsError(f"cannot tell whose {path} is: {error.strerror or error}") from error
        else:
            raise SettingsError(f"somebody serves on {path} already")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
