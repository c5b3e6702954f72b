"""Changes weights and sees when readers would: `python -m bench.probe …`. One JSON line per visible change on stdout.

Open loop: changes have intended times, and the latency of each is counted from there, so a stall shows in all changes
that it held up, not in one. A change is visible when its answer has come out of the `changes` stream, which carries
it together with the table's delta.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time

import redis

from bench.fleet import Fleet
from bench.load import producer, send
from waypost.client.keys import Keys

_GRACE_S = 20.0
"""How long after the last change answers are still waited for."""


def follow(url: str, position: str, intended: dict[str, float], done: threading.Event) -> None:
    """Print each change as it becomes visible: when it was intended, and how long it took, in ms."""
    keys = Keys()
    client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=5)
    open_since = None
    while True:
        if done.is_set():
            open_since = open_since or time.monotonic()
            if not intended or time.monotonic() - open_since > _GRACE_S:
                return
        try:
            answer = client.xread({keys.changes: position}, block=200, count=500)
        except redis.RedisError:
            time.sleep(0.05)
            continue
        now = time.monotonic()
        for _, entries in answer or ():
            for position, fields in entries:  # noqa: B007  the last one is where to go on
                if fields["answers"] == "[]":
                    continue
                for each in json.loads(fields["answers"]):
                    at = intended.pop(each["request_id"], None)
                    if at is not None:
                        print(json.dumps({"at": at, "ms": (now - at) * 1000}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    fleet, kafka, chance = Fleet(name=asked.fleet, size=asked.size), producer(asked.kafka), random.Random(asked.seed)
    with redis.Redis.from_url(asked.redis, decode_responses=True) as client:
        last = client.xrevrange(Keys().changes, count=1)
    position = last[0][0] if last else "0-0"
    intended: dict[str, float] = {}
    done = threading.Event()
    reader = threading.Thread(target=follow, args=(asked.redis, position, intended, done))
    reader.start()
    began, marker = time.monotonic(), f"bench-{time.time_ns()}"
    for turn in range(int(asked.rate * asked.seconds)):
        at = began + turn / asked.rate
        time.sleep(max(0.0, at - time.monotonic()))
        request = f"{marker}-{turn}"
        intended[request] = at
        # Of a thousand weights hardly ever the one it has: a change that changes nothing is answered all the same.
        send(
            kafka,
            "service-registry",
            fleet.weight_change(chance.randrange(fleet.size), chance.randrange(1, 1000), request),
        )
        kafka.poll(0)
    kafka.flush(10)
    done.set()
    reader.join()
    print(json.dumps({"lost": len(intended)}), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
