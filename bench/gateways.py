"""How fast and how steadily real gateways follow the tables: `python -m bench.gateways [KIND…] [--outage SECONDS]`.

Everything is real and on this machine: Valkey, the feed, the gateway, small servers behind it, and a client before it.
Tables are written by the store as the job writes them; Kafka and Flink are not part of this. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.contracts.conftest import Server, valkey_binary
from tests.e2e.tables import eventually
from tests.gateway.backends import Backend, Load, get
from tests.gateway.conftest import ROOT, Process, Site
from tests.gateway.tables import TableWriter, an_endpoint
from waypost.demo.figures import spread
from waypost.local.gateways import answers
from waypost.local.ports import free_ports
from waypost.model.names import ServiceKey

PAY = ServiceKey("default", "payments")
KINDS = ("traefik", "traefik-redis", "envoy")


def a_site(directory: Path, kind: str) -> Site:
    directory.mkdir()
    store = Server(valkey_binary(), directory)
    store.start("--notify-keyspace-events", "Kg$x")
    [port] = free_ports([None])
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "waypost", "gateway-feed", "--redis", store.url, "--listen", f"127.0.0.1:{port}"]
    if kind == "traefik-redis":
        command += ["--traefik-redis", store.url, "--root", ROOT]
    feed = Process(lambda: command, lambda: answers(f"{url}/healthz"), directory / "feed.log")
    site = Site(directory, store, TableWriter(store.url), feed, url)
    feed.start()
    return site


def change_to_gateway(site: Site, changes: int) -> Any:
    """Milliseconds from before the write of a table to the first request answered by what it says."""
    pair = [site.backend("a"), site.backend("b")]
    chance, times = random.Random(1), []
    for number in range(changes):
        time.sleep(0.3 + chance.random() * 0.5)
        one = pair[number % 2]
        began = time.monotonic()
        site.writer.publish(PAY, {one.name: an_endpoint(one.port)})
        while not get(site.at.url, "/default/payments/")[1].startswith(one.name):
            time.sleep(0.002)
        times.append((time.monotonic() - began) * 1000)
    found = spread(times)
    return asdict(found) if found else None


def rolling(site: Site, per_second: float) -> Any:
    """Replace eight instances, one by one, under load."""
    old = [site.backend(f"old-{n}") for n in range(8)]
    new: list[Backend] = []
    site.writer.publish(PAY, table(old))
    eventually(lambda: get(site.at.url, "/default/payments/")[1].startswith("old"))
    with Load(site.at.url, "/default/payments/", per_second=per_second) as load:
        for n, leaving in enumerate(list(old)):
            new.append(site.backend(f"new-{n}"))
            old.remove(leaving)
            site.writer.publish(PAY, table([*old, *new]), draining=table([leaving]))
            time.sleep(2.0)
            leaving.stop()
            site.writer.publish(PAY, table([*old, *new]))
    return summary(load)


def outage(site: Site, what: str, seconds: float) -> Any:
    """Freeze or kill one part for a while under load; how long until the gateway has caught up afterwards?"""
    word = what.split(" ")[-1]
    a, b = site.backend(f"{word}-a"), site.backend(f"{word}-b")
    site.writer.publish(PAY, table([a]))
    eventually(lambda: get(site.at.url, "/default/payments/")[1].startswith(a.name))
    with Load(site.at.url, "/default/payments/", per_second=100) as load:
        end = BREAK[what](site)
        time.sleep(seconds)
        end()
        began = time.monotonic()
        site.writer.publish(PAY, table([b]))
        eventually(lambda: load.by[b.name] > 0, 120)
        caught_up = time.monotonic() - began
    return {**summary(load), "outage_s": seconds, "caught_up_s": round(caught_up, 2)}


def _freeze_store(site: Site) -> Callable[[], None]:
    process = site.store._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


def _restart_store_empty(site: Site) -> Callable[[], None]:
    site.store.kill()

    def back() -> None:
        site.store.start()
        site.writer.rebuild()

    return back


def _kill_feed(site: Site) -> Callable[[], None]:
    site.feed.kill()
    return site.feed.start


BREAK: dict[str, Callable[[Site], Callable[[], None]]] = {
    "store unreachable": _freeze_store,
    "store gone, back empty": _restart_store_empty,
    "feed dead": _kill_feed,
}


def fleet(site: Site, services: int, endpoints: int) -> Any:
    """Many services: how long a change takes then, and what the feed costs at rest."""
    names = [ServiceKey("fleet", f"s{n}") for n in range(services)]
    for n, service in enumerate(names):
        each = {f"i{m}": an_endpoint(8080, address=f"10.{n // 250}.{n % 250}.{m + 1}") for m in range(endpoints)}
        site.writer.publish(service, each)
    one = site.backend("fleet")
    began = time.monotonic()
    site.writer.publish(names[-1], {"i": an_endpoint(one.port)})
    eventually(lambda: get(site.at.url, f"/fleet/{names[-1].service}/")[0] == 200, 300)
    loaded = time.monotonic() - began
    time.sleep(5)
    times = []
    for n in range(10):
        other = site.backend(f"fleet-{n}")
        began = time.monotonic()
        site.writer.publish(names[-1], {"i": an_endpoint(other.port)})
        while not get(site.at.url, f"/fleet/{names[-1].service}/")[1].startswith(other.name + " "):
            time.sleep(0.005)
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.5)
    found = spread(times)
    feed, before = site.feed._running, time.monotonic()
    assert feed is not None
    used = cpu_s(feed.pid)
    time.sleep(10)
    return {
        "services": services,
        "endpoints": services * endpoints,
        "first_load_s": round(loaded, 1),
        "change_ms": asdict(found) if found else None,
        "feed_cpu_share_at_rest": round((cpu_s(feed.pid) - used) / (time.monotonic() - before), 3),
        "document_kb": round(len(get(site.feed_url, "/traefik")[1]) / 1000),
    }


def table(backends: list[Backend]) -> dict[str, Any]:
    return {b.name: an_endpoint(b.port) for b in backends}


def summary(load: Load) -> dict[str, Any]:
    reasons = sorted({reason for _, reason in load.failures})
    return {
        "requests": load.made,
        "requests_per_second": round(load.made / load.seconds, 1),
        "failed": len(load.failures),
        **({"reasons": reasons} if reasons else {}),
    }


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        site = a_site(Path(scratch) / kind, kind)
        try:
            site.serve(kind)
            result: dict[str, Any] = {"change_to_gateway_ms": change_to_gateway(site, options.changes)}
            say(kind, result)
            result["rolling_replacement"] = rolling(site, options.per_second)
            say(kind, result["rolling_replacement"])
            for what in BREAK:
                result[what] = outage(site, what, options.outage)
                say(what, result[what])
            if options.services:
                result["fleet"] = fleet(site, options.services, 10)
                say("fleet", result["fleet"])
            return result
        finally:
            site.close()


def say(what: str, found: Any) -> None:
    print(f"{what}: {json.dumps(found)}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--per-second", type=float, default=200.0)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    parser.add_argument("--services", type=int, default=0, help="also with so many services of ten endpoints")
    options = parser.parse_args()
    document = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.system()}, load {os.getloadavg()[0]:.1f}",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        **{kind: measure(kind, options) for kind in options.kinds},
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
