"""Reading the URL of a registry: where it is, and with what options."""

from __future__ import annotations

from collections.abc import Set
from urllib.parse import parse_qsl, urlsplit

from waypost.errors import SettingsError


def read_url(url: str, known: Set[str]) -> tuple[str | None, int | None, dict[str, str]]:
    """Return host, port and options of a URL without a path. Raises SettingsError, also for options not in `known`."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"{url!r}: {error}") from error
    unknown = sorted(options.keys() - known)
    if unknown or parts.path.strip("/"):
        what = ", ".join(unknown) or parts.path
        raise SettingsError(f"{url!r}: {what} is unknown; options are {', '.join(sorted(known))}")
    return host, port, options
