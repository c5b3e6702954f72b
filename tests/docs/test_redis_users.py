"""The ACL rules of docs/operations.md are enough for those they are for, and not for writing tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import NoPermissionError

from sinks.redis_routes import RedisRouteStore
from tests.docs.pages import ROOT
from waypost.client.keys import Keys
from waypost.client.routes import RouteReader
from waypost.model.events import Attributes
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication, digest
from waypost.wire.endpoint import encode_endpoint

PAGE = (ROOT / "docs" / "operations.md").read_text()
RULES = dict(re.findall(r"^\| (route job|readers[^|]*) \| `(.*?)` \|$", PAGE, re.MULTILINE))
JOB, READER, ACKNOWLEDGING = RULES.values()
PAY = ServiceKey("default", "payments")
T0 = 1_795_298_407_272
PATIENT = timedelta(seconds=30)


@pytest.fixture
def server(valkey: str) -> Iterator[redis.Redis]:
    """The server's administrator; users made here are gone afterwards, and so are the keys."""
    with redis.Redis.from_url(valkey, decode_responses=True) as client:
        yield client
        client.execute_command("ACL", "DELUSER", "one", "other")
        for key in client.scan_iter("waypost:v1:*"):
            client.delete(key)


def url_of(server: redis.Redis, valkey: str, name: str, rules: str) -> str:
    server.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules.split())
    parts = urlsplit(valkey)
    return parts._replace(netloc=f"{name}:secret@{parts.hostname}:{parts.port}").geturl()


def publish(url: str) -> None:
    """Write a table as the job does."""
    store = RedisRouteStore(url, timeout=PATIENT)
    opened = store.open(WriterId("a" * 32, 0), T0)
    assert isinstance(opened, Opened)
    routes = {"p-1": encode_endpoint(Attributes(address="10.0.0.1", port=8080), since=T0)}
    publication = Publication(
        service=PAY,
        op=ChangeOp.SNAPSHOT,
        base=0,
        revision=T0 * 1000,
        routes=routes,
        instances=dict(routes),
        event_time=T0,
        digest=digest(routes),
        endpoints=1,
        rule="test",
        position=f"{T0}:0:1",
    )
    assert isinstance(store.publish(publication, opened.epoch, T0), Written)
    store.close()


@contextmanager
def following(url: str, *, reader_id: str | None = None) -> Iterator[int]:
    """Follow the table as a gateway does; gives how many endpoints it has."""
    reader = RouteReader(url, reader_id=reader_id)
    reader.watch(PAY)
    for _ in range(2):  # what was applied is acknowledged with the next look
        reader.poll(timedelta(0))
    yield len(reader.table(PAY).endpoints)
    reader.close()


def test_the_job_may_write_tables_and_not_administer(server: redis.Redis, valkey: str) -> None:
    url = url_of(server, valkey, "one", JOB)

    publish(url)

    with redis.Redis.from_url(url) as own:
        for command in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["GET", "somebody:elses"]):
            with pytest.raises(NoPermissionError):
                own.execute_command(*command)


@pytest.mark.parametrize(("rules", "reader_id"), [(READER, None), (ACKNOWLEDGING, "gateway-1")])
def test_a_reader_may_follow_tables(server: redis.Redis, valkey: str, rules: str, reader_id: str | None) -> None:
    publish(url_of(server, valkey, "one", JOB))
    url = url_of(server, valkey, "other", rules)

    with following(url, reader_id=reader_id) as endpoints:
        assert endpoints == 1
        assert set(server.hgetall(Keys().readers(PAY))) == ({reader_id} if reader_id else set())
    assert server.hgetall(Keys().readers(PAY)) == {}, "it takes its word back"


def test_a_reader_may_not_write_a_table(server: redis.Redis, valkey: str) -> None:
    with redis.Redis.from_url(url_of(server, valkey, "one", READER)) as own:
        for command in (["HSET", Keys().route(PAY), "p", "{}"], ["DEL", Keys().services], ["GET", "somebody:elses"]):
            with pytest.raises(NoPermissionError):
                own.execute_command(*command)
