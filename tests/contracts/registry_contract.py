"""The contract of `Discoverer` and `ServiceRegistry`: what every back end does, whatever stands behind it.

A `World` is a back end and a way to change what it sees by its own means: a file is written, a zone reloaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from waypost.client.copies import EventKind
from waypost.client.registry.feed import InstanceEvent, ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import Discoverer, ServiceRegistry
from waypost.errors import (
    InvalidAddress,
    InvalidInstance,
    InvalidMetadata,
    InvalidName,
    InvalidPort,
    NotSupported,
    UnknownInstance,
    UnknownService,
    WatchPositionLost,
)
from waypost.model.lifecycle import Status

CEILING_S = 60.0
A_WHILE = timedelta(milliseconds=200)


class World:
    """One back end under test. `service` is a name nobody else uses."""

    discoverer: Discoverer
    service: str
    holds_many = True
    """Whether a service can have more than one instance."""
    has_list = True
    forgets_empty = True
    """Whether a service without instances is unknown again."""

    def instance(self, number: int, **fields: Any) -> Instance:
        """Return an instance this back end can represent."""
        raise NotImplementedError

    def put(self, instance: Instance) -> None:
        raise NotImplementedError

    def remove(self, instance: Instance) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.discoverer.close()


class RegistryWorld(World):
    """A back end that can be written to."""

    registry: ServiceRegistry
    has_status = True
    has_ids = True

    def another(self) -> AbstractContextManager[ServiceRegistry]:
        """Return the same registry as another process has it."""
        raise NotImplementedError

    def put(self, instance: Instance) -> None:
        self.registry.register(instance)

    def remove(self, instance: Instance) -> None:
        self.registry.deregister(instance.name, instance.id)


def follow(watch: Watch, until: Callable[[dict[str, Instance]], bool]) -> list[InstanceEvent]:
    """Poll until the instances that all events led to are as wanted; return the events. Each must be one that can
    follow on the ones before."""
    deadline = time.monotonic() + CEILING_S
    held, events = watch.snapshot.callable, list[InstanceEvent]()
    while not until(held):
        for event in watch.poll(A_WHILE):
            assert event.instance.is_callable
            if event.kind is EventKind.DELETE:
                assert held.pop(event.instance.id) == event.instance
            else:
                assert (event.instance.id in held) == (event.kind is EventKind.UPDATE)
                held[event.instance.id] = event.instance
            events.append(event)
        assert held == watch.snapshot.callable
        assert time.monotonic() < deadline, f"still {held}"
    return events


def exactly(*instances: Instance) -> Callable[[dict[str, Instance]], bool]:
    return lambda held: held == {instance.id: instance for instance in instances}


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + CEILING_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class DiscovererContract:
    """Give a fixture `world`."""

    def test_an_unknown_service_is_an_error_that_names_it(self, world: World) -> None:
        with pytest.raises(UnknownService, match=world.service):
            world.discoverer.get_service(world.service)
        with pytest.raises(UnknownService):
            world.discoverer.discover(world.service)

    def test_what_is_there_is_found(self, world: World) -> None:
        first, second = world.instance(1), world.instance(2)
        world.put(first)
        eventually(lambda: known(world))
        assert world.discoverer.discover(world.service) == (first,)
        assert world.discoverer.get_service(world.service).instances == {first.id: first}
        if world.holds_many:
            world.put(second)
            eventually(lambda: len(world.discoverer.discover(world.service)) == 2)
            assert world.discoverer.discover(world.service) == (first, second)

    @pytest.mark.parametrize("name", ["", "Payments", "pay_ments", "pay/ments", "-pay", "p" * 254, "pay\n"])
    def test_names_that_are_none_are_refused(self, world: World, name: str) -> None:
        for ask in (world.discoverer.get_service, world.discoverer.discover, world.discoverer.watch):
            with pytest.raises(InvalidName):
                ask(name)

    def test_services_are_listed_or_the_error_says_why_not(self, world: World) -> None:
        world.put(world.instance(1))
        if world.has_list:
            eventually(lambda: world.service in world.discoverer.list_services())
            assert list(world.discoverer.list_services()) == sorted(world.discoverer.list_services())
        else:
            with pytest.raises(NotSupported):
                world.discoverer.list_services()

    def test_a_watch_tells_what_is_there_and_what_changes(self, world: World) -> None:
        first, second = world.instance(1), world.instance(2)
        world.put(first)
        eventually(lambda: known(world))
        with world.discoverer.watch(world.service) as watch:
            events = follow(watch, exactly(first))
            assert [event.kind for event in events] == [EventKind.ADD]
            if world.holds_many:
                world.put(second)
                follow(watch, exactly(first, second))
            world.remove(first)
            follow(watch, exactly(second) if world.holds_many else exactly())
            assert watch.stale_since is None

    def test_a_service_can_be_watched_before_it_exists(self, world: World) -> None:
        with world.discoverer.watch(world.service) as watch:
            assert watch.poll(A_WHILE) == []
            world.put(world.instance(1))
            follow(watch, exactly(world.instance(1)))

    def test_a_watch_goes_on_where_another_ended(self, world: World) -> None:
        world.put(world.instance(1))
        with world.discoverer.watch(world.service) as watch:
            follow(watch, exactly(world.instance(1)))
            snapshot = watch.snapshot
            # Somebody has to ask, or a back end without history of its own would see nothing.
            with world.discoverer.watch(world.service) as other:
                world.remove(world.instance(1))
                follow(other, exactly())
                world.put(world.instance(2))
                follow(other, exactly(world.instance(2)))
        with world.discoverer.watch(world.service, after=snapshot) as watch:
            assert watch.snapshot == snapshot
            events = follow(watch, exactly(world.instance(2)))
        assert [event.kind for event in events] == [EventKind.DELETE, EventKind.ADD]

    def test_a_watch_goes_on_from_what_get_service_returned(self, world: World) -> None:
        world.put(world.instance(1))
        eventually(lambda: known(world))
        snapshot = world.discoverer.get_service(world.service)
        with world.discoverer.watch(world.service, after=snapshot) as watch:
            world.remove(world.instance(1))
            events = follow(watch, exactly())
        assert [event.kind for event in events] == [EventKind.DELETE]

    @pytest.mark.parametrize("position", ["", "nonsense", "0.1", "4711.99999999", "x/1-1"])
    def test_a_position_that_never_was_is_an_error_that_says_what_to_do(self, world: World, position: str) -> None:
        world.put(world.instance(1))
        eventually(lambda: known(world))
        snapshot = ServiceSnapshot(service=world.service, instances={}, position=position)

        with pytest.raises(WatchPositionLost, match="get_service"):  # noqa: PT012, SIM117
            with world.discoverer.watch(world.service, after=snapshot) as watch:
                deadline = time.monotonic() + CEILING_S
                while time.monotonic() < deadline:
                    assert watch.poll(A_WHILE) == []

    def test_closing_ends_a_poll_that_waits(self, world: World) -> None:
        watch = world.discoverer.watch(world.service)
        polls = threading.Thread(target=watch.poll, args=(timedelta(seconds=2 * CEILING_S),))
        polls.start()
        watch.close()
        polls.join(CEILING_S)
        assert not polls.is_alive()
        watch.close()

    def test_closing_the_back_end_twice_is_harmless(self, world: World) -> None:
        with world.discoverer.watch(world.service):
            world.discoverer.close()
            world.discoverer.close()


def known(world: World) -> bool:
    try:
        return bool(world.discoverer.get_service(world.service).callable)
    except UnknownService:
        return False


class RegistryContract(DiscovererContract):
    """Give a fixture `world` that is a `RegistryWorld`."""

    def test_registering_again_replaces(self, world: RegistryWorld) -> None:
        before, now = world.instance(1), world.instance(1, metadata={"version": "2"})
        world.put(before)
        with world.discoverer.watch(world.service) as watch:
            follow(watch, exactly(before))
            world.put(now)
            follow(watch, exactly(now))
            if world.has_ids:
                moved = replace(now, address="10.9.9.9", port=9999)
                world.put(moved)
                follow(watch, exactly(moved))
                assert world.discoverer.discover(world.service) == (moved,)

    def test_of_two_writers_of_one_id_the_last_is_seen_and_the_first_does_not_come_back(
        self, world: RegistryWorld
    ) -> None:
        first = world.instance(1)
        second = world.instance(1, metadata={"version": "2"})
        if world.has_ids:
            second = replace(second, address="10.9.9.9", port=9999)
        world.put(first)
        with world.another() as other, world.discoverer.watch(world.service) as watch:
            follow(watch, exactly(first))
            other.register(second)
            follow(watch, exactly(second))
            # Each change below is told after whatever the first may have said meanwhile.
            for weight in (1, 2, 3):
                other.update(second.name, second.id, weight=weight)
                events = follow(watch, exactly(replace(second, weight=weight)))
                assert {event.instance.address for event in events} == {second.address}
            assert world.registry.am_i_registered(first.name, first.id)
            world.put(first)
            follow(watch, exactly(first))

    def test_who_is_registered_can_ask(self, world: RegistryWorld) -> None:
        one = world.instance(1)
        assert not world.registry.am_i_registered(one.name, one.id)
        world.put(one)
        eventually(lambda: world.registry.am_i_registered(one.name, one.id))
        world.remove(one)
        eventually(lambda: not world.registry.am_i_registered(one.name, one.id))

    def test_deregistering_is_idempotent(self, world: RegistryWorld) -> None:
        world.put(world.instance(1))
        world.remove(world.instance(1))
        world.remove(world.instance(1))
        with world.discoverer.watch(world.service) as watch:
            follow(watch, exactly())

    def test_an_update_changes_what_it_names(self, world: RegistryWorld) -> None:
        one = world.instance(1, metadata={"version": "1"})
        world.put(one)
        eventually(lambda: world.registry.am_i_registered(one.name, one.id))
        world.registry.update(one.name, one.id, metadata={"version": "2"})
        world.registry.update(one.name, one.id, weight=7)
        with world.discoverer.watch(world.service) as watch:
            follow(watch, exactly(replace(one, metadata={"version": "2"}, weight=7)))

    def test_an_update_of_nobody_or_of_nothing_is_an_error(self, world: RegistryWorld) -> None:
        one = world.instance(1)
        with pytest.raises(UnknownInstance, match="register it first"):
            world.registry.update(one.name, one.id, weight=7)
        world.put(one)
        for changes in ({}, {"id": "x"}, {"nonsense": 1}, {"port": 0}, {"weight": -1}):
            with pytest.raises(InvalidInstance):
                world.registry.update(one.name, one.id, **changes)
        eventually(lambda: known(world))
        assert world.discoverer.discover(world.service) == (one,)

    def test_who_drains_is_known_and_not_called(self, world: RegistryWorld) -> None:
        one = world.instance(1)
        world.put(one)
        if not world.has_status:
            with pytest.raises(NotSupported, match="deregister"):
                world.registry.update(one.name, one.id, status=Status.DRAINING)
            return
        with world.discoverer.watch(world.service) as watch:
            follow(watch, exactly(one))
            world.registry.update(one.name, one.id, status=Status.DRAINING)
            events = follow(watch, exactly())
            assert [event.kind for event in events] == [EventKind.DELETE]
            assert world.discoverer.discover(world.service) == ()
            assert world.discoverer.get_service(world.service).instances[one.id].status is Status.DRAINING
            world.registry.update(one.name, one.id, status=Status.UP)
            follow(watch, exactly(one))

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ({"name": "Not_DNS"}, InvalidName),
            ({"name": "a" * 254}, InvalidName),
            ({"id": "a/b"}, InvalidName),
            ({"id": ""}, InvalidName),
            ({"address": "10.0.0.256"}, InvalidAddress),
            ({"address": "0.0.0.0"}, InvalidAddress),
            ({"address": "not a host"}, InvalidAddress),
            ({"port": 0}, InvalidPort),
            ({"port": 65_536}, InvalidPort),
            ({"port": True}, InvalidPort),
            ({"metadata": {"big": "x" * 1_000, **{f"k{n}": "y" * 1_000 for n in range(8)}}}, InvalidMetadata),
            ({"metadata": {"number": 1}}, InvalidMetadata),
            ({"metadata": {"line": "a\nb"}}, InvalidMetadata),
            ({"metadata": {"half": "\ud800"}}, InvalidMetadata),
            ({"weight": 70_000}, InvalidInstance),
            ({"status": Status.REMOVED}, InvalidInstance),
        ],
    )
    def test_what_is_refused_is_refused_whole(
        self, world: RegistryWorld, fault: dict[str, Any], kind: type[InvalidInstance]
    ) -> None:
        with pytest.raises(kind):
            world.registry.register(replace(world.instance(1), **fault))
        with pytest.raises(UnknownService):
            world.discoverer.get_service(world.service)
