"""`make bench-quick`: first figures of the whole job as deployed, on this machine, in under ten minutes.

    cold start      100,000 registrations at once, and what another service feels of it
    L10k, L100k     changes at 100/s beside 3,333 beats/s: intended time → out of the `changes` stream
    traefik         the same beats and changes; intended time → first request that Traefik sends elsewhere
    recovery        kill -9 of the working TaskManager under that load, until latency is back
    beats/s         a backlog of beats, drained; then the same bookkeeping by quixstreams from the same broker

Results go to bench/results/latest.json. Everything is real: `waypost up`'s Kafka, Flink and Valkey with their
defaults (checkpoints on, poison-safe source), load from processes of their own. All of it shares the machine.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bench.fleet import BEAT_EVERY_S, Fleet
from bench.flink_offsets import FRESH, read_so_far
from bench.usage import Meter
from tests.gateway.backends import Backend, get
from waypost.client.keys import Keys
from waypost.demo.figures import percentile, spread
from waypost.flink.rest import FlinkRest
from waypost.local import control
from waypost.local.state import Stack, load_stack
from waypost.local.supervisor import Options
from waypost.model.names import ServiceKey
from waypost.topics import HEARTBEAT, default_topics

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".waypost-bench"
RESULTS = ROOT / "bench" / "results" / "latest.json"
HEARTBEATS = default_topics()[HEARTBEAT].name
CHANGES_PER_S = 100.0
WARM_UP_S = 10.0
MEASURE_S = 45.0
COLD = 100_000
SMALL = 10_000
BACKLOG = 2_000_000
OTHER = Fleet(name="other", size=100)


class Bench:
    """One run, on one stack at a time."""

    stack: Stack
    _redis: redis.Redis

    def __init__(self, peers: Path) -> None:
        self._peers = str(peers)
        self._began = time.monotonic()

    @contextlib.contextmanager
    def on(self, starting: contextlib.AbstractContextManager[Stack]) -> Iterator[None]:
        with starting as stack:
            self.stack = stack
            self._redis = redis.Redis.from_url(stack.redis_url, decode_responses=True)
            self.say("the stack is up")
            yield

    def say(self, what: str) -> None:
        click.echo(f"{time.monotonic() - self._began:7.1f} s  {what}")

    # --- load -------------------------------------------------------------------------------------

    def spawn(self, module: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._peers, "-m", f"bench.{module}", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, what: str, fleet: Fleet, *arguments: object) -> subprocess.Popen[str]:
        return self.spawn(
            "load", what, "--kafka", self.stack.kafka_bootstrap, "--fleet", fleet.name, "--size", fleet.size, *arguments
        )

    @contextlib.contextmanager
    def beating(self, fleet: Fleet) -> Iterator[None]:
        """Let the fleet beat, each instance every 30 s, but at 3,333/s at least, as if others beat too."""
        rate = max(fleet.size / BEAT_EVERY_S, 100_000 / BEAT_EVERY_S)
        process = self.load("beats", fleet, "--rate", rate)
        try:
            yield
            assert process.poll() is None, "the beats ended by themselves"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()

    def probe(self, fleet: Fleet, seconds: float, rate: float = CHANGES_PER_S) -> subprocess.Popen[str]:
        return self.spawn(
            "probe",
            *("--kafka", self.stack.kafka_bootstrap, "--redis", self.stack.redis_url),
            *("--fleet", fleet.name, "--size", fleet.size, "--rate", rate, "--seconds", seconds),
        )

    # --- phases -----------------------------------------------------------------------------------

    def cold_start(self, fleet: Fleet) -> dict[str, Any]:
        """Register the fleet at once; how long until Redis has all of it, and what the probed service felt."""
        probe = self.probe(OTHER, seconds=600, rate=5)
        time.sleep(3)
        began = time.monotonic()
        process = self.load("register", fleet)
        sent = None
        while (there := self._endpoints(fleet)) < fleet.size:
            if sent is None and process.poll() is not None:
                sent = time.monotonic() - began
            assert time.monotonic() - began < 400, f"only {there} of {fleet.size} arrived"
            time.sleep(0.25)
        seconds = time.monotonic() - began
        process.wait()
        probe.terminate()
        felt = [line["ms"] for line in _lines(probe) if "ms" in line and line["at"] >= began]
        return {
            "instances": fleet.size,
            "seconds": round(seconds, 1),
            "sent_after_seconds": round(sent or seconds, 1),
            "per_s": round(fleet.size / seconds),
            "others_change_ms": _spread(felt),
        }

    def changes(self, fleet: Fleet, seconds: float) -> dict[str, Any]:
        """Return the latency of changes under the load; the first seconds of both are left out."""
        with self.beating(fleet):
            time.sleep(2)
            probe = self.probe(fleet, WARM_UP_S + seconds)
            time.sleep(WARM_UP_S)
            meter = Meter(self._pids())
            found = _lines(probe)
            costs = meter.read()
        seen = [line for line in found if "ms" in line]
        first = min(line["at"] for line in seen)
        pooled = [line["ms"] for line in seen if line["at"] >= first + WARM_UP_S]
        return {
            "instances": fleet.size,
            "beats_per_s": round(max(fleet.size, 100_000) / BEAT_EVERY_S),
            "changes_per_s": CHANGES_PER_S,
            "change_to_reader_ms": _spread(pooled),
            "lost": found[-1]["lost"],
            "processes": costs,
        }

    def to_traefik(self, fleet: Fleet, changes: int) -> dict[str, Any]:
        """Move a service between two servers, by one record each time; until Traefik's first answer is the other's."""
        servers, chance, times = [Backend("a"), Backend("b")], random.Random(1), []
        kafka = KafkaProducer(bootstrap_servers=self.stack.kafka_bootstrap, acks="all", linger_ms=0)
        with self.beating(fleet):
            probe = self.probe(fleet, WARM_UP_S + changes)
            for number in range(-2, changes):
                time.sleep(0.3 + chance.random() * 0.5)
                one = servers[number % 2]
                moved = {"service": "moving", "endpoints": [f"127.0.0.1:{one.port}"], "last_updated": 100 + number}
                began = time.monotonic()
                kafka.send("service-registry", key=b"default/moving", value=json.dumps(moved).encode())
                while not get(self.stack.gateway_url, "/default/moving/")[1].startswith(one.name):
                    assert time.monotonic() - began < 60
                    time.sleep(0.002)
                if number >= 0:  # before, Traefik had no such route at all
                    times.append((time.monotonic() - began) * 1000)
            probe.terminate()
            probe.communicate()
        kafka.close()
        for one in servers:
            one.stop()
        return {"instances": fleet.size, "change_to_traefik_ms": _spread(times)}

    def recovery(self, fleet: Fleet, normal_ms: float) -> dict[str, Any]:
        """Kill the working TaskManager; how long until changes are as quick as before again (twice the normal P99)."""
        rest = FlinkRest(url=self.stack.flink_rest)
        with self.beating(fleet):
            probe = self.probe(fleet, 60)
            time.sleep(15)
            victim = self._working_task_manager()
            killed = time.monotonic()
            os.kill(self.stack.parts[victim].pid, signal.SIGKILL)
            while any(job.is_running for job in rest.jobs()):
                time.sleep(0.02)
            noticed = time.monotonic() - killed
            while not any(job.is_running for job in rest.jobs()):
                time.sleep(0.05)
            running = time.monotonic() - killed
            found = _lines(probe)
        late = [
            line["at"] + line["ms"] / 1000 for line in found if "ms" in line and line["ms"] > max(100, 2 * normal_ms)
        ]
        after = [moment for moment in late if moment >= killed]
        return {
            "noticed_s": round(noticed, 2),
            "job_running_again_s": round(running, 2),
            "latency_back_s": round(max(after, default=killed) - killed, 2),
            "changes_lost": found[-1]["lost"],
        }

    def ceiling(self, fleet: Fleet, count: int) -> dict[str, Any]:
        """Write beats faster than the job reads them; its rate while nobody writes any more."""
        job = self._job()
        process = self.load("backlog", fleet, "--count", count)
        written = json.loads(process.communicate()[0])
        read_so_far(self.stack.flink_rest, job, HEARTBEATS)  # only asking makes the JobManager ask for new values
        time.sleep(1.5)
        end, at = self._end_of_heartbeats(), time.monotonic()
        start = read_so_far(self.stack.flink_rest, job, HEARTBEATS)
        meter = Meter(self._pids())
        while read_so_far(self.stack.flink_rest, job, HEARTBEATS) < end:
            assert time.monotonic() - at < 300, "the backlog is not getting shorter"
            time.sleep(0.25)
        seconds = time.monotonic() - at
        return {
            "instances": fleet.size,
            "backlog": end - start,
            "seconds": round(seconds, 1),
            "beats_per_s": round((end - start) / seconds),
            "written_per_s": round(count / written["seconds"]),
            "processes": meter.read(),
        }

    def quixstreams(self, count: int) -> dict[str, Any]:
        """The same beats again, by quixstreams; our job idles beside it."""
        process = self.spawn(
            "peer_quixstreams", "--kafka", self.stack.kafka_bootstrap, "--topic", HEARTBEATS, "--count", count
        )
        answer = json.loads(process.communicate()[0].splitlines()[-1])
        return {"beats": count, "seconds": round(answer["seconds"], 1), "beats_per_s": round(count / answer["seconds"])}

    # --- questions --------------------------------------------------------------------------------

    def _endpoints(self, fleet: Fleet) -> int:
        keys, pipe = Keys(), self._redis.pipeline(transaction=False)
        for service in fleet.services:
            pipe.hlen(keys.route(ServiceKey("default", service)))
        return sum(pipe.execute())

    def wait_for(self, fleet: Fleet) -> None:
        deadline = time.monotonic() + 300
        while self._endpoints(fleet) < fleet.size:
            assert time.monotonic() < deadline
            time.sleep(0.25)

    def _job(self) -> str:
        return next(job.id for job in FlinkRest(url=self.stack.flink_rest).jobs() if job.is_running)

    def _pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in load_stack(self.stack.state_dir).parts.items()}

    def _working_task_manager(self) -> str:
        """Return the stack's name of the TaskManager that has no free slot: its resource id begins with it."""
        return FlinkRest(url=self.stack.flink_rest).working()[0].partition(".")[0]

    def _end_of_heartbeats(self) -> int:
        consumer = KafkaConsumer(bootstrap_servers=self.stack.kafka_bootstrap)
        try:
            partitions = [TopicPartition(HEARTBEATS, p) for p in consumer.partitions_for_topic(HEARTBEATS) or ()]
            return int(sum(consumer.end_offsets(partitions).values()))
        finally:
            consumer.close()


def _lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.communicate()[0].splitlines()]


def _spread(milliseconds: Sequence[float]) -> dict[str, float] | None:
    found = spread(milliseconds)
    if found is None:
        return None
    values = asdict(found) | {"p999": percentile(sorted(milliseconds), 0.999)}
    return {name: round(value, 1) for name, value in values.items()}


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gib": round(memory),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


@contextlib.contextmanager
def _stack(gateway: str = "none") -> Iterator[Stack]:
    control.stop(STATE, purge=True)
    control.claim(STATE)
    options = Options(job=control.pack_job(STATE), flink_settings=FRESH, gateway=gateway)
    process = control.start(STATE, options, dies_with_us=True)
    try:
        for _ in control.follow(
            STATE,
            until=lambda event: event.part == "stack" and event.what == "ready",
            alive=lambda: process.poll() is None,
            timeout_s=300,
        ):
            pass
        yield load_stack(STATE)
    finally:
        control.stop(STATE, purge=True)


PHASES = ("traefik", "cold", "l10k", "l100k", "recovery", "beats", "quixstreams")


@click.command(help=__doc__)
@click.option("--peers", type=click.Path(path_type=Path), required=True, help="The interpreter that has the peers.")
@click.option("--only", multiple=True, type=click.Choice(PHASES), help="Only these phases; may be repeated.")
@click.option(
    "--scale", type=float, default=1.0, show_default=True, help="Of all sizes; below 1 only to try the bench."
)
@click.option("--to", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="Where results go.")
def main(peers: Path, only: tuple[str, ...], scale: float, to: Path) -> None:
    phases = only or PHASES
    small, cold = (Fleet(name=name, size=int(size * scale)) for name, size in (("small", SMALL), ("cold", COLD)))
    seconds, backlog = MEASURE_S * min(1.0, 2 * scale), int(BACKLOG * scale)
    result: dict[str, Any] = {
        "machine": _machine(),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": "make bench-quick",
        "load": {},
    }

    def note(name: str, found: dict[str, Any]) -> None:
        result["load"][name] = found
        bench.say(f"{name}: {json.dumps({k: v for k, v in found.items() if k != 'processes'})}")

    def write() -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps(result, indent=2) + "\n")
        click.echo(f"written to {to}")

    bench = Bench(peers)
    if "traefik" in phases:
        with bench.on(_stack("traefik")):
            bench.load("register", OTHER).communicate()
            bench.wait_for(OTHER)
            note("traefik", bench.to_traefik(OTHER, max(5, int(40 * scale))))
            result["change_to_traefik_ms"] = result["load"]["traefik"]["change_to_traefik_ms"]
    if phases == ("traefik",):
        write()
        return
    with bench.on(_stack()):
        bench.load("register", OTHER).communicate()
        bench.wait_for(OTHER)
        if "l10k" in phases:
            bench.load("register", small).communicate()
            bench.wait_for(small)
            note("l10k", bench.changes(small, seconds))
        if set(phases) - {"traefik", "l10k"}:
            note("cold_start", bench.cold_start(cold))
        if {"l100k", "recovery"} & set(phases):
            note("l100k", bench.changes(cold, seconds))
            result["change_to_reader_ms"] = result["load"]["l100k"]["change_to_reader_ms"]
        if "recovery" in phases:
            note("recovery", bench.recovery(cold, result["change_to_reader_ms"]["p99"]))
        if "beats" in phases:
            note("beats", bench.ceiling(cold, backlog))
            result["beats_per_s"] = result["load"]["beats"]["beats_per_s"]
        if "quixstreams" in phases:
            note("quixstreams", bench.quixstreams(backlog // 4))
            result["peers"] = {"quixstreams": {"beats_per_s": result["load"]["quixstreams"]["beats_per_s"]}}
        bench.say("done")
    write()


if __name__ == "__main__":
    sys.exit(main())
