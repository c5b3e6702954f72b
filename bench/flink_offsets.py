"""How far the job has read, by its own metrics."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any
from urllib.parse import quote

FRESH = {"metrics.fetcher.update-interval": "500"}
"""Flink settings for a bench: by default the JobManager's copy of a metric is up to 10 s old."""


def read_so_far(rest: str, job: str, topic: str) -> int:
    """Return how many records of a topic the job's source has taken, summed over partitions."""
    wanted = re.compile(rf"\.KafkaSourceReader\.topic\.{re.escape(topic)}\.partition\.\d+\.currentOffset\Z")
    total = 0
    for vertex in _get(f"{rest}/jobs/{job}")["vertices"]:
        metrics = f"{rest}/jobs/{job}/vertices/{vertex['id']}/metrics"
        names = sorted(metric["id"] for metric in _get(metrics) if wanted.search(metric["id"]))
        if names:
            values = _get(f"{metrics}?get={quote(','.join(names))}")
            # The offset of the last record taken; -1 before the first.
            total += sum(int(float(metric["value"])) + 1 for metric in values)
    return total


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)
