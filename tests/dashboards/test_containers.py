"""What docker-compose.yml adds for monitoring, and that it is only added when asked for."""

from __future__ import annotations

from typing import Any

import yaml

from tests.docs.pages import ROOT

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def test_monitoring_is_a_profile_of_its_own() -> None:
    asked_for = {name for name, service in SERVICES.items() if "profiles" in service}

    assert asked_for == {"prometheus", "grafana"}
    for name in asked_for:
        assert SERVICES[name]["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
        assert ":-" in SERVICES[name]["image"], "a public image, pinned, that a variable can replace"


def test_every_file_that_is_mounted_exists() -> None:
    for name in ("prometheus", "grafana"):
        for volume in SERVICES[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), volume


def test_what_prometheus_scrapes_serves_metrics_there() -> None:
    config = yaml.safe_load((ROOT / "docker" / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
    scraped = {
        (name, found["port"])
        for job in config["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }

    assert scraped == {("jobmanager", 9249), ("taskmanager", 9249), ("witness", 9100), ("route-job", 9100)}
    for name in ("witness", "route-job"):
        assert SERVICES[name]["environment"]["WAYPOST_METRICS_PORT"] == 9100
