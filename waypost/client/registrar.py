"""Writes registrations and beats to the log.

Every event passes the wire codec before it is sent, in both directions: what the job would refuse is refused here,
with the same reason, while somebody is there to read it; and what is sent is in canonical spelling.

A registrar tells the log. Whether the event changed a table is known when `changes` answers its request id.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from waypost.client.event_sink import EventSink
from waypost.errors import DecodeError
from waypost.model.beats import PLAIN, Beat
from waypost.model.events import UPDATABLE, Attributes, InstanceEvent, Op
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey
from waypost.model.stamp import ORIGIN
from waypost.wire.beats import decode_heartbeat, encode_beat
from waypost.wire.registry import decode_registration, encode_registration, registry_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics a registrar writes to."""

    registry: str = "service-registry"
    heartbeat: str = "service-heartbeat"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_id() -> str:
    return str(uuid.uuid4())


def encode_checked(event: InstanceEvent, now_ms: int) -> bytes:
    """Return the record value of an event, exactly as the job will understand it.

    Raises DecodeError with the reason the job would give.
    """
    unknown = event.changes.keys() - set(UPDATABLE)
    if unknown:
        raise DecodeError("unknown-field", f"{', '.join(sorted(unknown))} cannot be updated")
    try:
        value = encode_registration(event)
    except TypeError as error:  # what JSON cannot hold: half a surrogate pair, an integer beyond 64 bits
        raise DecodeError("not-json", str(error)) from error
    # Not our clock: of a single instance nothing depends on when it is said, and a machine that believes to be in
    # 1970 or 2106 can be found all the same.
    return encode_registration(decode_registration(value, ORIGIN), ts=now_ms)


class Registrar:
    """Registers the instances of one namespace. Safe to share between threads if its sink is.

    Every method returns the request id under which the route job answers in `changes`. Each raises DecodeError for
    an event the job would refuse (nothing was sent) and RegistryUnavailable when the log cannot be reached.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        source: str = "sdk",
        topics: Topics | None = None,
        now_ms: Callable[[], int] = _now_ms,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._sink = sink
        self._namespace = namespace
        self._source = source
        self._topics = topics or Topics()
        self._now_ms = now_ms
        self._new_id = new_id

    def register(self, service: str, instance: str, attributes: Attributes, *, declared: Declared = Declared.UP) -> str:
        """Register an instance, or replace an earlier registration under the same id. Its lease starts."""
        return self.publish(self._event(Op.REGISTER, service, instance, attributes=attributes, declared=declared))

    def update(self, service: str, instance: str, **changes: Any) -> str:
        """Change single attributes (`weight=50`, `metadata={…}`, any of `UPDATABLE`); the others stay."""
        return self.publish(self._event(Op.UPDATE, service, instance, changes=changes))

    def set_status(self, service: str, instance: str, status: Declared | Health) -> str:
        """Declare a status (an owner or operator speaks), or report health (a checker speaks)."""
        if isinstance(status, Declared):
            return self.publish(self._event(Op.STATUS, service, instance, declared=status))
        return self.publish(self._event(Op.STATUS, service, instance, health=status))

    def drain(self, service: str, instance: str) -> str:
        """Take an instance out of the table and keep it registered, so that calls under way can end."""
        return self.publish(self._event(Op.DRAIN, service, instance))

    def deregister(self, service: str, instance: str) -> str:
        """Remove an instance. Late beats do not bring it back."""
        return self.publish(self._event(Op.DEREGISTER, service, instance))

    def unprotect(self, service: str) -> str:
        """Let the endpoints that the brake holds of a service leave its table now."""
        return self.publish(self._event(Op.UNPROTECT, service, ""))

    def beat(self, instance: str, beat: Beat = PLAIN) -> None:
        """Renew the lease of an instance. Does not wait: a beat that is lost is followed by the next."""
        key, value = instance.encode("utf-8", "replace"), encode_beat(beat)
        decode_heartbeat(key, value)
        self._sink.post(self._topics.heartbeat, key, value)

    def publish(self, event: InstanceEvent) -> str:
        """Write an event that was built elsewhere, under a fresh request id unless it has one."""
        event = replace(event, request_id=event.request_id or self._new_id())
        value = encode_checked(event, self._now_ms())
        self._sink.write(self._topics.registry, registry_key(event.service), value)
        return event.request_id

    def close(self) -> None:
        """Write what was posted and let go of the connection."""
        self._sink.close()

    def __enter__(self) -> Registrar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _event(self, op: Op, service: str, instance: str, **facts: Any) -> InstanceEvent:
        return InstanceEvent(
            op=op,
            service=ServiceKey(self._namespace, service),
            instance=instance,
            stamp=ORIGIN,
            source=self._source,
            **facts,
        )
