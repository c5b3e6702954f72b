"""The engine, the images under the cluster, and the compose implementations that are wanted.

Every test in this directory is marked `compose`. What is missing on the machine fails the tests with the
remedy instead of skipping them: a green run means that containers ran.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.compose.compose import Implementation, implementation, wanted_kinds
from tests.compose.engine import ContainerError, Engine, Say, running_engine
from tests.compose.images import base_images as find_base_images

HERE = Path(__file__).parent
# The first test of a cold run waits for images to be built; the fixture counts as its time.
TIMEOUT_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compose)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


# Before `-m` selects, or the marker set here would come too late.
pytest_collection_modifyitems = pytest.hookimpl(tryfirst=True)(pytest_collection_modifyitems)


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Tell the person at the terminal what takes so long; captured output would come too late."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(what: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\ncontainers: {what}", end="", flush=True)

    return say


@pytest.fixture(scope="session")
def engine(say: Say) -> Iterator[Engine]:
    """A container engine: the one that answers, else a private one that ends with the session."""
    with running_engine(say) as engine:
        yield engine


@pytest.fixture(scope="session")
def base_images(engine: Engine, say: Say) -> dict[str, str]:
    """PYTHON_IMAGE, KAFKA_IMAGE and VALKEY_IMAGE for compose: the public images, or stand-ins with their contract."""
    return find_base_images(engine, say)


@pytest.fixture(scope="session", params=wanted_kinds())
def compose_command(request: pytest.FixtureRequest) -> Implementation:
    """Each compose that WAYPOST_COMPOSE lists (default: v2 and v1), one after the other."""
    return implementation(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_exception_interact(call: pytest.CallInfo[object], report: pytest.TestReport) -> Generator[None, None, None]:
    """Show what went wrong outside the test as the sentence it is, without the way it took through our code."""
    if call.excinfo is not None and isinstance(call.excinfo.value, ContainerError):
        report.longrepr = str(call.excinfo.value)
    return (yield)
