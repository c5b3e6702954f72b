"""Webhooks, to the addresses that the operator has listed and to no other.

A policy names a URL; the list of this process says which are allowed. So whoever can write policies cannot make a job
inside the cluster call whatever it reaches. No redirect is followed, and nothing of an answer is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import urllib3

from waypost.errors import SettingsError
from waypost.repair.port import Refused, Unavailable


class AllowedWebhooks:
    """Posts to URLs below the allowed ones: same scheme, host and port, and a path that begins with theirs."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = [_parts(url) for url in allowed]
        self._pool = urllib3.PoolManager(retries=urllib3.Retry(0, redirect=0), maxsize=2)

    def post(self, url: str, body: bytes, *, timeout_ms: int, key: str) -> None:
        if not self._allows(url):
            raise Refused(f"{_origin(url)} is not in repair.webhooks")
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            answer = self._pool.request(
                "POST",
                url,
                body=body,
                headers=headers,
                timeout=timeout_ms / 1000,
                redirect=False,
                preload_content=False,
            )
            answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{_origin(url)}: {type(error).__name__}") from error
        if 200 <= answer.status < 300:
            return
        told = f"{_origin(url)} answers {answer.status}"
        if answer.status in (408, 429) or answer.status >= 500:
            raise Unavailable(told)
        raise Refused(told)

    def _allows(self, url: str) -> bool:
        try:
            origin, path = _parts(url)
        except SettingsError:
            return False
        if ".." in path.split("/") or "%" in path or "\\" in path:
            return False
        return any(origin == o and (path == p or path.startswith(p.rstrip("/") + "/")) for o, p in self._allowed)


def _parts(url: str) -> tuple[tuple[str, str, int], str]:
    """Return ((scheme, host, port), path). Raises SettingsError for what is no plain http(s) URL."""
    try:
        found = urlsplit(url)
        port = found.port or (443 if found.scheme == "https" else 80)
    except ValueError:
        raise SettingsError(f"repair.webhooks: {url!r} is no URL") from None
    if found.scheme not in ("http", "https") or not found.hostname or found.username is not None:
        raise SettingsError(f"repair.webhooks: {url!r} is no http(s) URL")
    return (found.scheme, found.hostname, port), found.path or "/"


def _origin(url: str) -> str:
    """Return a URL without its path and query, which may carry secrets."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.hostname or ''}"
