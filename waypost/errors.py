"""Every exception Waypost raises on purpose, split by who has to act.

What a caller can foresee (a stale registration, an unknown instance) is a value with a reason, not
an exception; see `waypost.model.service.Verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence


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


class PolicyError(DecodeError):
    """A policy document is refused as a whole; `problems` names each place and what is wrong there. Its author must
    correct it, the policies in use stay."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("bad-policy", "; ".join(f"{path}: {what}" for path, what in problems))
        self.problems = tuple(problems)


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


class ClusterUnavailable(WaypostError):
    """The Kubernetes API server did not answer, or refused a request; the next pass tries again."""


class StackError(WaypostError):
    """A part of the local stack could not be started or stopped; the message says which and why."""


class InvalidInstance(WaypostError):
    """A registration or a name cannot be accepted by any registry; the caller must correct it. Nothing was written.

    `reason` is the slug that `DecodeError` has for the same fault, so logs of clients and `dead-letter` speak alike.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{detail} ({reason})")
        self.reason = reason
        self.detail = detail


class InvalidName(InvalidInstance):
    """A service or instance is called what it cannot be called; services are DNS-1123 names."""


class InvalidAddress(InvalidInstance):
    """Not an address others can call."""


class InvalidPort(InvalidInstance):
    """Not a TCP port from 1 to 65535."""


class InvalidMetadata(InvalidInstance):
    """Metadata is no flat text, or more of it than every reader should have to hold."""


class UnknownService(WaypostError):
    """The registry has never heard of the service, or has forgotten it; `watch` waits for it to come."""

    def __init__(self, service: str, where: str) -> None:
        super().__init__(
            f"{where} knows no service {service!r}: check its name and namespace, or watch it until somebody registers"
        )
        self.service = service


class UnknownInstance(WaypostError):
    """The registry knows no such instance of the service; register it instead."""

    def __init__(self, service: str, instance: str, where: str) -> None:
        super().__init__(f"{where} knows no instance {instance!r} of {service!r}: register it first")
        self.service = service
        self.instance = instance


class WatchPositionLost(WaypostError):
    """The registry no longer has what happened since that position. Call `get_service` and watch from what it returns:
    the difference between the two snapshots is what was missed."""

    def __init__(self, service: str, position: str, why: str) -> None:
        super().__init__(
            f"cannot go on watching {service!r} after {position!r}: {why}. "
            "Call get_service() and watch from the snapshot it returns"
        )
        self.service = service
        self.position = position


class NotSupported(WaypostError):
    """This back end cannot do that at all; the message names one that can."""


class RegistrationRefused(WaypostError):
    """The registry took note of the request and did not follow it; `reason` says why."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.reason = reason
