"""The example of docs/kubernetes-tests.md works as it stands there."""

from __future__ import annotations

from typing import Any

from kubernetes import client

from tests.docs.pages import ROOT, fences
from waypost.local.kubernetes import Kubernetes


def test_the_pages_example_works(kubernetes: Kubernetes, namespace: str) -> None:
    page = ROOT / "docs" / "kubernetes-tests.md"
    [example] = [fence.text for fence in fences(page) if fence.language == "python"]
    names: dict[str, Any] = {"Kubernetes": Kubernetes, "client": client}

    exec(compile(example, page.name, "exec"), names)

    names["test_a_deployment_is_there"](kubernetes, namespace)
