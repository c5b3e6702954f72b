"""Waypost as a registry: it writes the log in Kafka and reads the tables in Redis.

A registration is done when the route job has answered it: then its table shows it. If no answer comes in time, it is
taken back and the caller told, because a job that is away could apply it long after the caller has gone.
(A program that wants to start before its registry does uses `waypost.client.registration.Registration`, which never
waits.) From then on it beats three times per lease; beats that were lost are made good by the next one.

Unlike in etcd, an instance that somebody else deregisters stays away: that is an operator's word here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import redis

from waypost.client.answers import Answered, AnswerWaiter, open_answers
from waypost.client.connection import connect, text, texts
from waypost.client.draining import Drained, wait_for_readers, wait_until_left
from waypost.client.event_sink import EventSink, KafkaSink
from waypost.client.follow import START
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.client.registrar import Registrar, Topics
from waypost.client.registry.changes import checked_changes
from waypost.client.registry.feed import ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance, checked, checked_id, checked_service
from waypost.client.registry.interface import ServiceRegistry
from waypost.client.registry.keeping import Keeper
from waypost.client.registry.table_feeds import TableFeeds, check_position, instance_of, position_of
from waypost.client.routes import TIMEOUT
from waypost.errors import (
    DecodeError,
    InvalidName,
    RegistrationRefused,
    RegistryUnavailable,
    UnknownInstance,
    UnknownService,
)
from waypost.model.beats import Beat
from waypost.model.events import DEFAULT_LEASE_SECONDS, Attributes
from waypost.model.lifecycle import Declared, Status
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey, is_namespace
from waypost.wire.endpoint import KnownInstance, decode_endpoint, decode_instance

LEASE = timedelta(seconds=DEFAULT_LEASE_SECONDS)
ANSWER = timedelta(seconds=10)
"""How long the route job may take to answer; it restarts within 8 s."""


class WaypostRegistry(ServiceRegistry):
    """See the module. Connects at the first call; a sink that it is given stays open.

    `reader_id` makes its watches acknowledge what they have applied.
    """

    def __init__(
        self,
        kafka: EventSink | str,
        redis_url: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        source: str = "sdk",
        prefix: str = DEFAULT_PREFIX,
        topics: Topics | None = None,
        lease: timedelta = LEASE,
        answer: timedelta = ANSWER,
        reader_id: str | None = None,
    ) -> None:
        if not is_namespace(namespace):
            raise InvalidName("bad-namespace", f"namespace {namespace!r}: at most 63 of a-z 0-9 -")
        self._own_sink = KafkaSink(kafka) if isinstance(kafka, str) else None
        sink = self._own_sink or kafka
        assert not isinstance(sink, str)
        self._registrar = Registrar(sink, namespace=namespace, source=source, topics=topics)
        self._namespace = namespace
        self._redis_url = redis_url
        self._redis = connect(redis_url, TIMEOUT)
        self._keys = Keys(prefix)
        self._prefix = prefix
        self._lease = lease
        self._answer = answer
        self._feeds = TableFeeds(redis_url, prefix=prefix, reader_id=reader_id)
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], Keeper] = {}
        self.where = f"Waypost, namespace {namespace}"

    # -- writing ---------------------------------------------------------------------------------------

    def register(self, instance: Instance) -> None:
        instance = checked(instance)
        attributes = self._attributes(instance)
        who, what = (instance.name, instance.id), f"registering {instance.id} of {instance.name}"
        declared = Declared(instance.status.value)
        try:
            answer = self._say(what, lambda: self._registrar.register(*who, attributes, declared=declared))
        except _NotAnswered:
            # One that was registered before stays as it was or becomes what was asked for; it is not taken away.
            if who not in self._kept:
                with contextlib.suppress(RegistryUnavailable):
                    self._registrar.deregister(*who)
            raise
        if not answer.applied:
            raise RegistrationRefused(what, answer.reason)
        key = self._key(instance.name)
        keeper = Keeper(f"{instance.id} of {key}", _Beats(self._registrar, key, instance.id), self._lease)
        with self._lock:
            before, self._kept[who] = self._kept.get(who), keeper
        if before is not None:
            before.stop()
        keeper.start()

    def update(self, service: str, instance: str, **changes: Any) -> None:
        checked_changes(changes)
        # Any instance will do for checking: which one it is makes no difference to what is acceptable.
        probe = Instance(id=checked_id(instance), name=checked_service(service), address="127.0.0.1", port=1)
        wanted = checked(replace(probe, **changes))
        said = {name: getattr(wanted, name) for name in changes if name != "status"}
        if said:
            self._change(service, instance, lambda: self._registrar.update(service, instance, **said))
        if "status" in changes:
            declared = Declared(wanted.status.value)
            self._change(service, instance, lambda: self._registrar.set_status(service, instance, declared))

    def deregister(self, service: str, instance: str) -> None:
        checked_service(service), checked_id(instance)
        with self._lock:
            keeper = self._kept.pop((service, instance), None)
        if keeper is not None:
            keeper.stop()
        what = f"deregistering {instance} of {service}"
        self._say(what, lambda: self._registrar.deregister(service, instance))

    def am_i_registered(self, service: str, instance: str) -> bool:
        """As the interface says: whether the table's job knows the instance, routable or not."""
        return self.known(service, instance) is not None

    def known(self, service: str, instance: str) -> KnownInstance | None:
        """Return all that the table's job knows of one instance, None when it knows none: its three facts, and why it
        is or is not called. Raises RegistryUnavailable."""
        key = self._key(service)
        checked_id(instance)
        try:
            found: Any = self._redis.hget(self._keys.instances(key), instance)
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(f"looking for {instance} of {key}", error) from error
        if found is None:
            return None
        try:
            known = decode_instance(text(found))
        except DecodeError as error:
            raise RegistryUnavailable(f"{instance} of {key} cannot be read: {error}") from error
        return None if known.status is Status.REMOVED else known

    def drain(
        self, service: str, instance: str, *, wait: bool = False, timeout: timedelta = timedelta(seconds=30)
    ) -> Drained:
        """Take an instance out of the table and keep it registered, so that calls under way can end.

        With `wait`, return when every reader that acknowledges has moved on, or say after `timeout` who has not.
        """
        checked_service(service), checked_id(instance)
        revision = self._change(service, instance, lambda: self._registrar.drain(service, instance)).revision
        if not wait:
            return Drained(revision=revision, waiting={})
        return wait_for_readers(self._redis, self._keys, self._key(service), revision, timeout)

    def wait_until_left(self, service: str, instance: str, timeout: timedelta) -> Drained:
        """Wait until an instance that was told to leave is out of the table, and every reader that acknowledges has
        moved on. Raises RegistryUnavailable when the table has it still when the time ends."""
        return wait_until_left(self._redis, self._keys, self._key(service), checked_id(instance), timeout)

    # -- reading ---------------------------------------------------------------------------------------

    def get_service(self, service: str) -> ServiceSnapshot:
        key = self._key(service)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.get(self._keys.generation)
        pipeline.xrevrange(self._keys.changes, count=1)
        pipeline.exists(self._keys.meta(key))
        pipeline.hgetall(self._keys.route(key))
        pipeline.hgetall(self._keys.instances(key))
        try:
            life, last, exists, routes, instances = pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(f"reading {key}", error) from error
        if not exists:
            raise UnknownService(service, self.where)
        found = _decoded(key, texts(routes), texts(instances))
        entry = text(last[0][0]) if last else START
        return ServiceSnapshot(service=service, instances=found, position=position_of(text(life), entry))

    def list_services(self) -> tuple[str, ...]:
        try:
            members: Any = self._redis.smembers(self._keys.services)
        except (redis.RedisError, OSError) as error:
            raise self._unavailable("listing services", error) from error
        parts = (text(member).partition("/") for member in members)
        return tuple(sorted(service for namespace, _, service in parts if namespace == self._namespace))

    def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> Watch:
        """As the interface says. From a snapshot that `changes` still reaches, the difference to the table is told."""
        key = self._key(service)
        if after is not None:
            check_position(self._redis_url, self._keys, after)
        return Watch(self._feeds.feed(key), after=after)

    def close(self) -> None:
        with self._lock:
            keepers = list(self._kept.values())
            self._kept.clear()
        for keeper in keepers:
            keeper.stop()
        self._feeds.close()
        self._redis.close()
        if self._own_sink is not None:
            self._own_sink.close()

    # -- inside ----------------------------------------------------------------------------------------

    def _key(self, service: str) -> ServiceKey:
        return ServiceKey(self._namespace, checked_service(service))

    def _attributes(self, instance: Instance) -> Attributes:
        return Attributes(
            address=instance.address,
            port=instance.port,
            weight=instance.weight,
            zone=instance.zone,
            metadata=instance.metadata,
            lease_seconds=int(self._lease.total_seconds()),
        )

    def _change(self, service: str, instance: str, write: Callable[[], str]) -> Answered:
        what = f"changing {instance} of {service}"
        answer = self._say(what, write)
        if not answer.applied and answer.reason in ("unknown-instance", "already-deregistered"):
            raise UnknownInstance(service, instance, self.where)
        if not answer.applied:
            raise RegistrationRefused(what, answer.reason)
        return answer

    def _say(self, what: str, write: Callable[[], str]) -> Answered:
        """Write one event and return the job's answer to it."""
        waiter: AnswerWaiter
        with open_answers(self._redis_url, prefix=self._prefix) as waiter:
            try:
                answer = waiter.wait(write(), self._answer.total_seconds())
            except RegistryUnavailable as error:
                raise _NotAnswered(str(error)) from error
        if answer is None:
            raise _NotAnswered(
                f"{what}: written to the log, but the route job did not answer within "
                f"{self._answer.total_seconds():g} s; see `waypost status`, then try again"
            )
        return answer

    def _unavailable(self, what: str, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(f"{what}: Redis cannot be reached: {error}")


class _NotAnswered(RegistryUnavailable):
    """It may be on the log, and nobody has said so."""


class _Beats:
    """A registration on the log, kept alive by beats. The log forgets nothing, so there is nothing to write again."""

    def __init__(self, registrar: Registrar, service: ServiceKey, instance: str) -> None:
        self._registrar = registrar
        self._instance = instance
        self._beat = Beat(service=service.service, namespace=service.namespace)

    def renew(self) -> bool:
        self._registrar.beat(self._instance, self._beat)
        return True

    def write(self) -> None:
        raise AssertionError("renew never says that it is needed")


def _decoded(key: ServiceKey, routes: dict[str, str], instances: dict[str, str]) -> dict[str, Instance]:
    """Return every known instance: the routable ones as gateways see them, the others with their status."""
    found: dict[str, Instance] = {}
    for id, entry in instances.items():
        with contextlib.suppress(DecodeError):
            known = decode_instance(entry)
            if known.status is not Status.REMOVED and not known.routable:
                found[id] = _not_routable(key, id, known)
    for id, entry in routes.items():
        with contextlib.suppress(DecodeError):
            found[id] = instance_of(key, id, decode_endpoint(entry))
    return found


def _not_routable(key: ServiceKey, id: str, known: KnownInstance) -> Instance:
    return Instance(
        id=id,
        name=key.service,
        address=known.address,
        port=known.port,
        metadata=dict(known.metadata),
        # UP and not routable: something lies over it, such as an isolation; it does not want requests either.
        status=Status.DOWN if known.status is Status.UP else known.status,
        weight=known.weight,
        zone=known.zone,
    )
