"""The same lease bookkeeping in quixstreams: `python -m bench.peer_quixstreams …`. One JSON line on stdout.

What any stream library makes of it: one keyed state per instance with its last beat, deadline and load, durable by
RocksDB and a changelog topic, offsets committed. It decides nothing, publishes nothing and survives no clock: less
than the route job does with the same beats.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time

from quixstreams import Application, State

from bench.fleet import LEASE_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    asked = parser.parse_args()
    seen = 0
    began = ended = 0.0

    def renew(beat: dict[str, float], _key: str, at: int, _headers: object, state: State) -> None:
        nonlocal seen, began, ended
        lease = state.get("lease") or {"health": "unknown"}
        state.set("lease", {**lease, "last_beat": at, "deadline": at + LEASE_S * 1000, "cpu": beat.get("cpu")})
        seen += 1
        if seen == 1:
            began = time.monotonic()
        if seen == asked.count:
            ended = time.monotonic()
            app.stop()

    with tempfile.TemporaryDirectory() as state_dir:
        app = Application(
            broker_address=asked.kafka,
            consumer_group=f"bench-quixstreams-{time.time_ns()}",
            auto_offset_reset="earliest",
            state_dir=state_dir,
            loglevel="ERROR",
        )
        beats = app.dataframe(app.topic(asked.topic, key_deserializer="str", value_deserializer="json"))
        beats.update(renew, stateful=True, metadata=True)
        app.run()
    json.dump({"beats": seen, "seconds": ended - began}, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
