"""A registration lasts as long as its process, whatever Kafka does, and ends in order."""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.contracts.conftest import eventually
from waypost.client.connection import Backoff
from waypost.client.event_sink import KafkaSink, MemorySink, Record
from waypost.client.registrar import Topics
from waypost.client.registration import Registrant, Registration
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.model.events import Attributes, InstanceEvent
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.topics import HEARTBEAT, REGISTRY, default_topics, ensure_topics
from waypost.wire.beats import decode_heartbeat
from waypost.wire.registry import decode_registration

PAYMENTS = ServiceKey("shop", "payments")
P1 = Registrant(
    service=PAYMENTS, instance="p-1", attributes=Attributes(address="10.1.2.3", port=8080, lease_seconds=30)
)
AWAY = RegistryUnavailable("no broker")
CEILING_S = 30.0
GRACE = timedelta(seconds=7)


def word(record: Record) -> str:
    """What a record says, in one word."""
    if record.topic == Topics().heartbeat:
        return "beat"
    event = decode_registration(record.value, Stamp(0))
    assert isinstance(event, InstanceEvent)
    return event.op.value


def said(sink: MemorySink) -> list[str]:
    return [word(record) for record in sink.records]


@dataclass
class ScriptedSink(MemorySink):
    """A sink whose n-th try of a word fails where the script says so."""

    fails: Callable[[str, int], bool] = lambda word, n: False
    tries: list[str] = field(default_factory=list)

    def write(self, topic: str, key: bytes, value: bytes) -> None:
        what = word(Record(topic, key, value))
        self.tries.append(what)
        if self.fails(what, self.tries.count(what)):
            raise AWAY
        MemorySink.write(self, topic, key, value)


def of_the_registration(thread: threading.Thread) -> bool:
    return thread.name == "registration of p-1"


class Pauses:
    """A wait that lets `steps` pauses pass at once and then waits for the end; notes what was asked for."""

    def __init__(self, steps: int) -> None:
        self.asked: list[float] = []
        self._steps = steps
        self.exhausted = threading.Event()

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        if not of_the_registration(threading.current_thread()):
            return event.is_set()  # the grace
        self.asked.append(seconds)
        if len(self.asked) <= self._steps:
            return event.is_set()
        self.exhausted.set()
        assert event.wait(CEILING_S)
        return True


def a_registration(sink: MemorySink, wait: Callable[[threading.Event, float], bool]) -> Registration:
    return Registration(sink, P1, chance=random.Random(0), backoff=Backoff(random=lambda: 1.0), wait=wait)


def no_grace_waited(event: threading.Event, seconds: float) -> bool:
    """A wait for tests where the thread has nothing to do: long for the thread, none for the grace."""
    return event.wait(CEILING_S if of_the_registration(threading.current_thread()) else 0)


class TestRegistering:
    def test_it_registers_and_beats_until_it_leaves(self) -> None:
        sink, pauses = MemorySink(), Pauses(4)
        registration = a_registration(sink, pauses)

        assert not registration.is_registered
        registration.start()
        assert pauses.exhausted.wait(CEILING_S)
        assert registration.is_registered

        assert said(sink) == ["register", "beat", "beat", "beat", "beat"]
        assert registration.lost_beats == 0
        assert registration.leave()
        assert said(sink)[5:] == ["drain", "deregister"]
        assert not registration.is_registered

    def test_what_it_registers_is_what_it_was_given(self) -> None:
        sink = MemorySink()
        registration = a_registration(sink, no_grace_waited)
        registration.start()
        eventually(lambda: registration.is_registered)
        registration.leave()

        event = decode_registration(sink.records[0].value, Stamp(0))
        assert isinstance(event, InstanceEvent)
        assert (event.service, event.instance, event.attributes) == (PAYMENTS, "p-1", P1.attributes)
        assert {record.key for record in sink.records} == {b"shop/payments"}

    def test_a_beat_renews_this_service_only(self) -> None:
        sink, pauses = MemorySink(), Pauses(1)
        registration = a_registration(sink, pauses)
        registration.start()
        assert pauses.exhausted.wait(CEILING_S)
        registration.leave()

        beat = next(record for record in sink.records if word(record) == "beat")
        ((instance, content),) = decode_heartbeat(beat.key, beat.value).beats
        assert (instance, content.namespace, content.service) == ("p-1", "shop", "payments")

    def test_two_lost_beats_never_end_a_lease(self) -> None:
        pauses = Pauses(200)
        registration = a_registration(MemorySink(), pauses)
        registration.start()
        assert pauses.exhausted.wait(CEILING_S)
        registration.leave()

        first, *others = pauses.asked
        assert 0 <= first <= 10
        assert all(7.5 <= pause <= 9.5 for pause in others)
        assert len(set(others)) > 100

    def test_it_tries_again_until_kafka_is_there(self, caplog: pytest.LogCaptureFixture) -> None:
        sink, pauses = ScriptedSink(fails=lambda what, n: what == "register" and n <= 5), Pauses(6)
        registration = a_registration(sink, pauses)

        with caplog.at_level(logging.INFO):
            registration.start()
            assert pauses.exhausted.wait(CEILING_S)
            assert registration.is_registered
            registration.leave()

        assert said(sink)[:2] == ["register", "beat"]
        assert pauses.asked[:5] == [0.05, 0.1, 0.2, 0.4, 0.8]
        assert caplog.text.count("p-1 of shop/payments is not registered yet, trying again: no broker") == 5
        assert "p-1 of shop/payments is registered, lease 30 s" in caplog.text

    def test_a_lost_beat_is_counted_and_logged_and_the_next_one_follows(self, caplog: pytest.LogCaptureFixture) -> None:
        sink, pauses = ScriptedSink(fails=lambda what, n: what == "beat" and n in (2, 3)), Pauses(5)
        registration = a_registration(sink, pauses)

        registration.start()
        assert pauses.exhausted.wait(CEILING_S)
        registration.leave()

        assert sink.tries[:6] == ["register", "beat", "beat", "beat", "beat", "beat"]
        assert registration.lost_beats == 2
        assert caplog.text.count("a beat of p-1 of shop/payments is lost") == 2

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"instance": "a b"}, "bad-instance-id"),
            ({"service": ServiceKey("shop", "Payments")}, "bad-service"),
            ({"service": ServiceKey("shop_", "payments")}, "bad-namespace"),
            ({"source": "?"}, "bad-source"),
            ({"attributes": Attributes(address="0.0.0.0", port=80)}, "bad-address"),
            ({"attributes": Attributes(address="10.1.2.3", port=0)}, "port-out-of-range"),
            ({"attributes": Attributes(address="10.1.2.3", port=80, lease_seconds=1)}, "lease-out-of-bounds"),
        ],
    )
    def test_what_would_be_refused_for_ever_is_refused_at_once(self, changes: dict[str, object], reason: str) -> None:
        sink = MemorySink()

        with pytest.raises(DecodeError) as caught:
            Registration(sink, replace(P1, **changes))  # type: ignore[arg-type]

        assert caught.value.reason == reason
        assert sink.records == []


class TestLeaving:
    def test_it_drains_then_waits_then_deregisters(self) -> None:
        sink = MemorySink()
        seen: list[object] = []

        def wait(event: threading.Event, seconds: float) -> bool:
            if of_the_registration(threading.current_thread()):
                return event.wait(CEILING_S)
            seen.extend([*said(sink), seconds, registration.is_registered])
            return event.is_set()

        registration = a_registration(sink, wait)
        registration.start()
        eventually(lambda: registration.is_registered)

        assert registration.leave(GRACE)

        assert seen == ["register", "drain", 7.0, True]
        assert said(sink) == ["register", "drain", "deregister"]

    def test_it_beats_on_while_it_drains(self) -> None:
        sink, go_on = MemorySink(), threading.Semaphore(0)

        def wait(event: threading.Event, seconds: float) -> bool:
            while of_the_registration(threading.current_thread()) and not event.is_set():
                if go_on.acquire(timeout=0.01):
                    return event.is_set()
            return True

        registration = a_registration(sink, wait)
        registration.start()
        eventually(lambda: registration.is_registered)
        assert registration.drain()
        go_on.release()
        eventually(lambda: "beat" in said(sink))

        assert registration.leave()
        assert said(sink) == ["register", "drain", "beat", "deregister"]

    def test_nothing_follows_the_deregistration(self) -> None:
        sink = MemorySink()
        registration = a_registration(sink, lambda event, seconds: event.wait(0))
        registration.start()
        eventually(lambda: said(sink).count("beat") >= 50)

        registration.leave()

        words = said(sink)
        assert words[0] == "register"
        assert words[-1] == "deregister"
        assert words.count("drain") == words.count("deregister") == 1
        assert not registration._thread.is_alive()

    def test_leaving_twice_is_leaving_once(self) -> None:
        sink = MemorySink()
        registration = a_registration(sink, no_grace_waited)
        registration.start()
        eventually(lambda: registration.is_registered)

        answers = [registration.drain(), registration.drain(), registration.leave(), registration.leave(GRACE)]
        answers.append(registration.drain())

        assert answers == [True] * 5
        assert said(sink) == ["register", "drain", "deregister"]

    def test_many_threads_leaving_wait_for_the_one_that_does(self) -> None:
        sink = MemorySink()
        registration = a_registration(sink, no_grace_waited)
        registration.start()
        eventually(lambda: registration.is_registered)
        answers: list[bool] = []

        def leave() -> None:
            answers.append(registration.leave())
            assert said(sink)[-1] == "deregister"

        threads = [threading.Thread(target=leave) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CEILING_S)

        assert answers == [True] * 8
        assert said(sink) == ["register", "drain", "deregister"]

    def test_who_never_tried_to_register_has_nothing_to_take_back(self) -> None:
        sink = MemorySink()
        registration = a_registration(sink, no_grace_waited)

        assert registration.leave(GRACE)
        registration.start()
        registration._thread.join(CEILING_S)

        assert sink.records == []
        assert not registration.is_registered

    def test_leaving_while_still_registering_ends_the_tries(self) -> None:
        sink = ScriptedSink(fails=lambda what, n: what == "register")
        registration = a_registration(sink, no_grace_waited)
        registration.start()
        eventually(lambda: sink.tries)

        assert registration.leave(GRACE)

        # An unacknowledged registration may be on the log, so it is taken back; there was no table to leave.
        assert sink.tries == ["register", "drain", "deregister"]
        assert not registration.is_registered

    def test_a_try_under_way_is_waited_for_and_nothing_registers_after_the_drain(self) -> None:
        entered, proceed = threading.Event(), threading.Event()

        class SlowSink(MemorySink):
            def write(self, topic: str, key: bytes, value: bytes) -> None:
                if word(Record(topic, key, value)) == "register":
                    entered.set()
                    assert proceed.wait(CEILING_S)
                MemorySink.write(self, topic, key, value)

        sink = SlowSink()
        registration = a_registration(sink, no_grace_waited)
        registration.start()
        assert entered.wait(CEILING_S)
        leaving = threading.Thread(target=registration.leave)
        leaving.start()
        proceed.set()
        leaving.join(CEILING_S)

        assert said(sink) == ["register", "drain", "deregister"]

    def test_when_kafka_is_away_it_leaves_all_the_same_and_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        sink = ScriptedSink(fails=lambda what, n: what in ("drain", "deregister"))
        registration = a_registration(sink, no_grace_waited)
        registration.start()
        eventually(lambda: registration.is_registered)

        assert not registration.drain()
        assert not registration.leave(GRACE)
        assert not registration.leave()

        assert sink.tries == ["register", "drain", "deregister"]
        assert registration.is_registered  # the log was told nothing else; the lease ends it
        assert "p-1 could not deregister from shop/payments: no broker" in caplog.text


def test_the_whole_life_on_a_real_log(kafka: str) -> None:
    names = {role: f"{topic.name}-{uuid.uuid4().hex[:8]}" for role, topic in default_topics().items()}
    topics = default_topics(names)
    ensure_topics(kafka, [replace(topics[role], partitions=1) for role in (REGISTRY, HEARTBEAT)])
    registry, heartbeat = topics[REGISTRY].name, topics[HEARTBEAT].name
    sink = KafkaSink(kafka)
    quick = replace(P1, attributes=replace(P1.attributes, lease_seconds=2))
    registration = Registration(sink, quick, topics=Topics(registry=registry, heartbeat=heartbeat))
    consumer = KafkaConsumer(bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(registry, 0), TopicPartition(heartbeat, 0)])
    seen: list[tuple[str, str]] = []

    def read(what: str) -> bool:
        for records in consumer.poll(timeout_ms=100).values():
            for r in records:
                topic = Topics().heartbeat if r.topic == heartbeat else r.topic
                seen.append((r.key.decode(), word(Record(topic, r.key, r.value))))
        return what in [said for _, said in seen]

    try:
        registration.start()
        eventually(lambda: registration.is_registered, within=60)
        eventually(lambda: read("beat"), within=60)
        assert registration.leave(timedelta(milliseconds=10))
        eventually(lambda: read("deregister"), within=60)
    finally:
        registration.leave()
        sink.close()
        consumer.close()

    assert [said for key, said in seen if key == "shop/payments"] == ["register", "drain", "deregister"]
    assert {said for key, said in seen if key == "p-1"} == {"beat"}
    assert registration.lost_beats == 0
