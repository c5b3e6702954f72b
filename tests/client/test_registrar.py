"""The registrar: what it sends is what the job understands, and what the job would refuse is not sent."""

from __future__ import annotations

import json

import pytest

from waypost.client.event_sink import KafkaSink, MemorySink
from waypost.client.registrar import Registrar, Topics
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.model.beats import Beat
from waypost.model.events import Attributes, InstanceEvent, Op
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.beats import Heartbeats, decode_heartbeat
from waypost.wire.registry import decode_registration

T0 = 1_795_298_407_272
PLACE = Attributes(address="10.1.2.3", port=8080)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def registrar(sink: MemorySink) -> Registrar:
    ids = iter(f"r-{n}" for n in range(100))
    return Registrar(sink, namespace="shop", now_ms=lambda: T0, new_id=lambda: next(ids))


def sent(sink: MemorySink) -> InstanceEvent:
    (record,) = sink.records
    event = decode_registration(record.value, Stamp(T0))
    assert isinstance(event, InstanceEvent)
    assert record.topic == "service-registry"
    assert record.key == b"shop/payments"
    return event


def test_a_registration_arrives_as_it_was_meant(sink: MemorySink, registrar: Registrar) -> None:
    request_id = registrar.register("payments", "p-1", PLACE, declared=Declared.STARTING)

    assert sent(sink) == InstanceEvent(
        op=Op.REGISTER,
        service=ServiceKey("shop", "payments"),
        instance="p-1",
        stamp=Stamp(T0),
        attributes=PLACE,
        declared=Declared.STARTING,
        source="sdk",
        request_id=request_id,
    )
    assert json.loads(sink.records[0].value)["ts"] == T0


def test_every_verb_is_an_op(sink: MemorySink, registrar: Registrar) -> None:
    registrar.update("payments", "p-1", weight=5, metadata={"b": "1"})
    registrar.set_status("payments", "p-1", Declared.OUT_OF_SERVICE)
    registrar.set_status("payments", "p-1", Health.FAIL)
    registrar.drain("payments", "p-1")
    registrar.deregister("payments", "p-1")

    events = [decode_registration(record.value, Stamp(T0)) for record in sink.records]

    assert [e.op for e in events if isinstance(e, InstanceEvent)] == [
        Op.UPDATE, Op.STATUS, Op.STATUS, Op.DRAIN, Op.DEREGISTER
    ]  # fmt: skip
    assert len({event.request_id for event in events}) == 5


def test_what_is_sent_is_in_canonical_spelling(sink: MemorySink, registrar: Registrar) -> None:
    registrar.register("payments", "p-1", Attributes(address="2001:DB8::0:7", port=80))

    attributes = sent(sink).attributes
    assert attributes is not None
    assert attributes.address == "2001:db8::7"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (Attributes(address="0.0.0.0", port=80), "bad-address"),
        (Attributes(address="10.1.2.3", port=70_000), "port-out-of-range"),
        (Attributes(address="10.1.2.3", port=80, zone="\udcff"), "not-json"),
        (Attributes(address="10.1.2.3", port=2**70), "not-json"),
        (Attributes(address="10.1.2.3", port=80, metadata={"k": "x" * 2_000}), "text-too-long"),
    ],
)
def test_what_the_job_would_refuse_is_not_sent(
    sink: MemorySink, registrar: Registrar, attributes: Attributes, reason: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        registrar.register("payments", "p-1", attributes)

    assert caught.value.reason == reason
    assert sink.records == []


def test_an_update_of_an_unknown_field_is_not_silently_dropped(sink: MemorySink, registrar: Registrar) -> None:
    with pytest.raises(DecodeError, match="wieght"):
        registrar.update("payments", "p-1", weight=1, wieght=5)

    assert sink.records == []


def test_removal_cannot_be_declared(registrar: Registrar) -> None:
    with pytest.raises(DecodeError, match="unknown-status"):
        registrar.set_status("payments", "p-1", Declared.REMOVED)


def test_a_beat_goes_out_under_the_id_of_its_instance(sink: MemorySink, registrar: Registrar) -> None:
    registrar.beat("p-1", Beat(cpu=0.4))

    (record,) = sink.records
    assert record.topic == "service-heartbeat"
    assert decode_heartbeat(record.key, record.value) == Heartbeats(beats=(("p-1", Beat(cpu=0.4)),))


@pytest.mark.parametrize("instance", ["", "a b", "a|b", "é", "\ud800"])
def test_a_beat_of_an_impossible_id_is_not_sent(sink: MemorySink, registrar: Registrar, instance: str) -> None:
    with pytest.raises(DecodeError):
        registrar.beat(instance)

    assert sink.records == []


def test_topics_may_have_other_names(sink: MemorySink) -> None:
    registrar = Registrar(sink, topics=Topics(registry="r", heartbeat="h"))

    registrar.drain("payments", "p-1")
    registrar.beat("p-1")

    assert [record.topic for record in sink.records] == ["r", "h"]


def test_the_registrar_passes_on_that_the_registry_is_away(sink: MemorySink, registrar: Registrar) -> None:
    sink.failure = RegistryUnavailable("no broker")

    with pytest.raises(RegistryUnavailable, match="no broker"):
        registrar.drain("payments", "p-1")


def test_leaving_the_block_closes_the_sink(sink: MemorySink) -> None:
    with Registrar(sink):
        pass

    assert sink.closed


def test_an_unreachable_kafka_is_told_with_what_to_do() -> None:
    def refuse(**settings: object) -> object:
        assert settings["acks"] == "all"
        assert settings["enable_idempotence"] is True
        raise OSError("connection refused")

    with pytest.raises(RegistryUnavailable, match=r"Kafka at localhost:1 .*service-registry.*refused.*Check") as caught:
        Registrar(KafkaSink("localhost:1", make_producer=refuse)).drain("payments", "p-1")

    assert isinstance(caught.value.__cause__, OSError)


class FailingFuture:
    is_done = True

    def get(self, timeout: float) -> None:
        raise TimeoutError("too late")

    def add_errback(self, callback: object) -> None:
        assert callable(callback)
        callback(TimeoutError("too late"))


class FailingProducer:
    def __init__(self, **settings: object) -> None:
        self.closed = False

    def send(self, topic: str, key: bytes, value: bytes) -> FailingFuture:
        return FailingFuture()

    def close(self, timeout: float) -> None:
        self.closed = True


def test_a_record_that_is_not_acknowledged_is_an_error_and_a_lost_beat_is_counted() -> None:
    sink = KafkaSink("localhost:1", make_producer=FailingProducer)

    with pytest.raises(RegistryUnavailable, match="too late"):
        Registrar(sink).drain("payments", "p-1")
    Registrar(sink).beat("p-1")

    assert sink.lost == 1


def test_a_closed_sink_says_so() -> None:
    sink = KafkaSink("localhost:1")
    sink.close()
    sink.close()

    with pytest.raises(RegistryUnavailable, match="closed"):
        sink.write("t", b"k", b"v")


@pytest.mark.parametrize("now_ms", [-1, 0, 4_300_000_000_000])
def test_a_clock_that_is_wrong_keeps_nobody_from_registering(sink: MemorySink, now_ms: int) -> None:
    Registrar(sink, namespace="shop", now_ms=lambda: now_ms).register("payments", "p-1", PLACE)

    assert sent(sink).attributes == PLACE
    assert json.loads(sink.records[0].value)["ts"] == now_ms
