"""Who may send alerts: whoever knows the token, or has a certificate that we asked for.

An alert can lead to a repair, so nobody unknown may raise one. The token is in a file, because arguments and
environments are read by others; the file is read again when it changes, so that tokens can be rotated without a
restart. Of a token only its digest is kept and compared.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from waypost.errors import SettingsError

MIN_TOKEN = 16
"""Signs. A shorter one can be guessed over HTTP."""

_MAX_TOKEN = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in PEM. `client_ca`: only callers with a certificate of it are let in; None asks for none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(slots=True)
class TokenFile:
    """The bearer token in a file, without the white space around it."""

    path: Path
    _seen: tuple[int, int, int] = (-1, -1, -1)
    _digest: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self._refresh()

    def admits(self, authorization: str) -> bool:
        """Tell whether a request with this header may pass."""
        scheme, _, token = authorization.partition(" ")
        try:
            self._refresh()
        except SettingsError:
            pass  # While it is being replaced, the one before counts.
        given = _digest(token.strip().encode("utf-8", "replace"))
        return hmac.compare_digest(given, self._digest) and scheme.lower() == "bearer"

    def _refresh(self) -> None:
        try:
            status = os.stat(self.path)
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return
            token = self.path.read_bytes()[: _MAX_TOKEN + 1].strip()
        except OSError as error:
            raise SettingsError(f"cannot read the token file {self.path}: {error.strerror}") from error
        if not MIN_TOKEN <= len(token) <= _MAX_TOKEN:
            raise SettingsError(f"the token in {self.path} must have {MIN_TOKEN} to {_MAX_TOKEN} bytes")
        self._digest, self._seen = _digest(token), seen


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token).digest()


def require_access(token: TokenFile | None, tls: Tls | None, insecure: bool) -> None:
    """Raise SettingsError unless callers are known, or it was spelled out that they need not be."""
    if token is None and (tls is None or tls.client_ca is None) and not insecure:
        raise SettingsError(
            "anybody could raise alerts: give --token-file, or --tls-cert, --tls-key and --client-ca; "
            "or spell out --insecure"
        )
