"""Writes a fleet's records to Kafka: `python -m bench.load register|beats|backlog …`. One JSON line on stdout.

confluent-kafka, because the load must not be what binds. Open loop: each record has an intended time, and is sent as
soon as that has come, however late earlier ones were.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable

from confluent_kafka import Producer

from bench.fleet import Fleet

TURN_S = 0.01


def producer(bootstrap: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 512 * 1024,
            # As kafka-python and Java do, so that an instance's records stay in one partition whoever writes them.
            "partitioner": "murmur2_random",
        }
    )


def send(kafka: Producer, topic: str, record: tuple[bytes, bytes]) -> None:
    key, value = record
    while True:
        try:
            kafka.produce(topic, value, key)
            return
        except BufferError:
            kafka.poll(0.1)


def register(kafka: Producer, fleet: Fleet) -> None:
    """Register the whole fleet as fast as Kafka takes it."""
    for number in range(fleet.size):
        send(kafka, "service-registry", fleet.registration(number))
        if number % 1000 == 0:
            kafka.poll(0)
    kafka.flush()


def beats(kafka: Producer, fleet: Fleet, rate: float, stopped: Callable[[], bool]) -> None:
    """Beat at `rate` per second until stopped, the instances taking turns."""
    began, sent = time.monotonic(), 0
    while not stopped():
        due = int((time.monotonic() - began) * rate)
        while sent < due:
            turn, number = divmod(sent, fleet.size)
            send(kafka, "service-heartbeat", fleet.beat(number, turn))
            sent += 1
        kafka.poll(0)
        time.sleep(TURN_S)
    kafka.flush(10)


def backlog(kafka: Producer, fleet: Fleet, count: int) -> None:
    """Write `count` beats as fast as Kafka takes them."""
    for sent in range(count):
        turn, number = divmod(sent, fleet.size)
        send(kafka, "service-heartbeat", fleet.beat(number, turn))
        if sent % 5000 == 0:
            kafka.poll(0)
    kafka.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["register", "beats", "backlog"])
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--count", type=int, default=0)
    asked = parser.parse_args()
    stopped = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stopped.set())
    fleet, kafka = Fleet(name=asked.fleet, size=asked.size), producer(asked.kafka)
    began = time.monotonic()
    if asked.what == "register":
        register(kafka, fleet)
    elif asked.what == "beats":
        beats(kafka, fleet, asked.rate, stopped.is_set)
    else:
        backlog(kafka, fleet, asked.count)
    json.dump({"what": asked.what, "seconds": time.monotonic() - began}, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
