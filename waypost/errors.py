"""Every exception Waypost raises on purpose, split by who has to act.

What a caller can foresee (a stale registration, an unknown instance) is a value with a reason, not
an exception; see `waypost.model.service.Verdict`.
"""

from __future__ import annotations


class WaypostError(Exception):
    """Root of all errors of this package."""


class DecodeError(WaypostError):
    """A producer sent bytes that are not a valid message; the message must go to `dead-letter`.

    `reason` is a short, stable, machine-readable slug (`bad-json`, `port-out-of-range`, …); `detail`
    says what was wrong for a person. Neither contains the payload.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class SettingsError(WaypostError):
    """A setting is unknown, malformed or out of bounds; the operator must correct it."""


class TopicError(WaypostError):
    """A topic lacks a setting the job relies on; the operator must correct the topic."""


class FencedError(WaypostError):
    """A newer attempt of this job writes the tables now: this writer must stop."""


class StoreUnavailable(WaypostError):
    """Redis did not answer in time; the caller keeps the change and tries again."""


class PublicationRefused(WaypostError):
    """The store refuses one service's publication, and will refuse it again (a key of a wrong type, say): only this
    service waits, and a person has to look."""


class StateVersionError(WaypostError):
    """State was written by a version this code cannot read; restore with the code that wrote it."""


class RegistryUnavailable(WaypostError):
    """The registry cannot be reached; use the last known good table."""


class StackError(WaypostError):
    """A part of the local stack could not be started or stopped; the message says which and why."""
