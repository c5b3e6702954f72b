"""The cluster itself is in tests/conftest.py, because others use it too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.workloads import Namespace, opened
from waypost.local.kubernetes import Kubernetes


@pytest.fixture
def room(kubernetes: Kubernetes, namespace: str) -> Iterator[Namespace]:
    """A namespace of the test's own, with what the tests here do in one."""
    with opened(kubernetes, namespace) as made:
        yield made
