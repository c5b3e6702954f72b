"""A real Prometheus on the real stack: every expression of the dashboards, and the alarm when all beats stop."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.expressions import RULES, expressions
from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables, eventually
from waypost.local.ports import LOOPBACK, free_ports
from waypost.local.state import Stack
from waypost.metrics import DEAD_LETTERS, Kind, Origin, register

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class Prometheus:
    """A server of the test's own, asked over its API."""

    def __init__(self, binary: str, directory: Path, stack: Stack) -> None:
        [port] = free_ports([None])
        self._url = f"http://{LOOPBACK}:{port}"
        # As shipped, but quicker: nobody waits minutes in a test.
        rules = RULES.read_text(encoding="utf-8").replace("for: 30s", "for: 1s").replace("> 60000 and", "> 3000 and")
        (directory / "rules.yml").write_text(rules)
        targets = [url.removeprefix("http://").removesuffix("/metrics") for url in stack.metrics.values()]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "waypost", "static_configs": [{"targets": targets}]}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (directory / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={LOOPBACK}:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def api(self, path: str, **arguments: str) -> Any:
        query = urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None  # reads its own log still
            raise AssertionError(f"{arguments}: {error.read().decode()}") from error
        except OSError:
            return None  # not up yet

    def samples(self, expression: str) -> list[Any]:
        found = self.api("query", query=expression)
        return [] if found is None else list(found["result"])

    def answer(self, path: str) -> Any:
        """Return what it says, however busy it is."""
        return eventually(lambda: self.api(path))

    def firing(self) -> set[str]:
        return {a["labels"]["alertname"] for a in self.answer("alerts")["alerts"] if a["state"] == "firing"}


@pytest.fixture(scope="module")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus: scripts/monitoring.sh installs it")
    server = Prometheus(binary, tmp_path_factory.mktemp("prometheus"), stack)
    try:
        eventually(lambda: len(server.samples("up == 1")) == len(stack.metrics))
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


def test_alarm_goes_off_when_all_beats_stop_and_ends_when_they_return(
    prometheus: Prometheus, log: LogWriter, tables: Tables
) -> None:
    for n in range(3):
        log.register("alarm", f"a{n}", 14_000 + n)
    with log.beating("a0", "a1", "a2"):
        tables.wait_for("alarm", "a0", "a1", "a2")
        eventually(lambda: prometheus.samples("waypost:beats:rate1m > 0"))
        eventually(lambda: "WaypostLogSilent" not in prometheus.firing())

    eventually(lambda: "WaypostLogSilent" in prometheus.firing())

    with log.beating("a0", "a1", "a2"):
        eventually(lambda: "WaypostLogSilent" not in prometheus.firing())
    assert tables.ids("alarm") == {"a0", "a1", "a2"}


def test_every_metric_of_ours_has_samples(prometheus: Prometheus, log: LogWriter, tables: Tables) -> None:
    log.record("service-registry", b"k", b"{")
    log.register("measured", "m0", 14_100)
    tables.wait_for("measured", "m0")

    wanted = [m for m in register() if m.origin in (Origin.ROUTE_JOB, Origin.WITNESS, Origin.FLINK)]

    def missing() -> list[str]:
        names = set(prometheus.answer("label/__name__/values"))
        return [name for metric in wanted for name in metric.exported if name not in names]

    eventually(lambda: not missing())
    [latency] = [m for m in wanted if m.kind is Kind.HISTOGRAM]
    _, total, count = latency.exported
    assert eventually(lambda: prometheus.samples(f"sum({count}) > 0 and sum({total}) > 0"))
    bounds = {s["metric"]["le"] for s in prometheus.samples(latency.exported[0])}
    assert bounds == {*map(str, latency.buckets), "+Inf"}
    assert eventually(lambda: prometheus.samples(f'{DEAD_LETTERS.exported[0]}{{reason="bad-json"}} > 0'))


def test_every_expression_of_the_dashboards_runs_on_the_real_metrics(prometheus: Prometheus) -> None:
    for where, expression in expressions():
        assert eventually(lambda e=expression: prometheus.api("query", query=e)) is not None, where
    for name in ("beats:rate1m", "complete_ticks:rate1m", "tick_lag_ms", "leases", "audit_share:rate5m"):
        assert eventually(lambda n=name: prometheus.samples(f"waypost:{n}")), name
    unhealthy = [r for g in prometheus.answer("rules")["groups"] for r in g["rules"] if r["health"] == "err"]
    assert unhealthy == []


def test_a_healed_table_is_an_alert(prometheus: Prometheus, log: LogWriter, tables: Tables) -> None:
    log.register("watched", "w0", 14_200)
    tables.wait_for("watched", "w0")

    tables.redis.delete("waypost:v1:{default/watched}:route")

    eventually(lambda: "WaypostTablesHealed" in prometheus.firing())
