"""A mini cluster per run, one broker and one Valkey for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.flink.mini_cluster import MiniCluster, Tables, Topics


@pytest.fixture(scope="session")
def mini_cluster(kafka: str, valkey: str, tmp_path_factory: pytest.TempPathFactory) -> MiniCluster:
    return MiniCluster(kafka, valkey, tmp_path_factory.mktemp("flink"))


@pytest.fixture(scope="session")
def make_topics(kafka: str) -> Callable[[], Topics]:
    def make() -> Topics:
        topics = Topics(kafka)
        topics.create()
        return topics

    return make


@pytest.fixture(scope="session")
def tables_of(mini_cluster: MiniCluster) -> Iterator[Callable[[Topics], Tables]]:
    opened: list[Tables] = []

    def tables(topics: Topics) -> Tables:
        opened.append(Tables(mini_cluster.redis_url, mini_cluster.prefix(topics)))
        return opened[-1]

    yield tables
    for one in opened:
        one.close()
