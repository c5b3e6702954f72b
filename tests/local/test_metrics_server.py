"""`/metrics` of a process of ours, asked over HTTP."""

from __future__ import annotations

import urllib.request

import pytest

from waypost.errors import StackError
from waypost.local.ports import LOOPBACK, free_ports
from waypost.metrics import KEEPER_REPORTS, WITNESS_LAST, WITNESS_ROUNDS, Origin
from waypost.metrics_server import ProcessMetrics


def test_what_was_counted_is_served() -> None:
    metrics = ProcessMetrics(Origin.WITNESS)
    [port] = free_ports([None])
    metrics.serve(LOOPBACK, port)

    metrics.count(WITNESS_ROUNDS)
    metrics.count(WITNESS_ROUNDS)
    metrics.now(WITNESS_LAST)

    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "waypost_witness_rounds_total 2.0" in text
    assert "waypost_keeper" not in text


def test_a_label_is_part_of_the_count() -> None:
    metrics = ProcessMetrics(Origin.KEEPER)

    metrics.count(KEEPER_REPORTS, "submitted")


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    [port] = free_ports([None])
    ProcessMetrics(Origin.WITNESS).serve(LOOPBACK, port)

    with pytest.raises(StackError, match=str(port)):
        ProcessMetrics(Origin.WITNESS).serve(LOOPBACK, port)
