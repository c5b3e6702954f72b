"""The examples of docs/client.md run, one after the other as a reader would type them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.registry_servers import EtcdServer
from tests.docs.pages import ROOT, fences
from waypost.client.registry.instance import Instance

PAGE = ROOT / "docs" / "client.md"
EXAMPLES = [fence for fence in fences(PAGE) if fence.language == "python"]


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    for example in EXAMPLES:
        if not example.tag:
            exec(compile(example.text, PAGE.name, "exec"), names)

    assert capsys.readouterr().out.splitlines() == [
        "payments-1 10.1.2.3 8080 100",
        "True ('payments',)",
        "add payments-1",
        "update b",
        "add cart-1",
        "called 10.1.2.3:8080",
        "fresh",
        "10.1.2.5 25",
    ]
    assert "payments-1" in (tmp_path / "tables.json").read_text()


@pytest.mark.e2e
def test_the_example_of_etcd_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = EtcdServer(tmp_path)
    server.start()
    try:
        (example,) = (fence for fence in EXAMPLES if fence.tag == "needs-etcd")
        text = example.text.replace("127.0.0.1:2379", server.address)
        exec(compile(text, PAGE.name, "exec"), {"Instance": Instance})
    finally:
        server.kill()

    assert capsys.readouterr().out == "10.1.2.3\n"
