"""A controller that starts before its CustomResourceDefinition waits for it instead of leading for nothing."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes import client

from waypost.controller.cluster import ApiServer
from waypost.controller.run import wait_for_kind

NONE = (404, {"message": "the server could not find the requested resource"})
OTHERS = (200, {"resources": [{"name": "others"}]})
OURS = (200, {"resources": [{"name": "others"}, {"name": "kafkaservicediscoveries"}]})
DENIED = (403, {"message": "forbidden"})


class Discovery:
    """Says what it is told to say, the last for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, object]]] = []
        self.asked: list[str] = []


@pytest.fixture
def discovery() -> Discovery:
    return Discovery()


@pytest.fixture
def cluster(discovery: Discovery) -> Iterator[ApiServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            discovery.asked.append(self.path)
            status, body = discovery.answers[0]
            if len(discovery.answers) > 1:
                discovery.answers.pop(0)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    settings.proxy = None
    with client.ApiClient(settings) as api:
        yield ApiServer(api)
    server.shutdown()
    server.server_close()


def test_it_waits_until_its_kind_is_known(
    cluster: ApiServer, discovery: Discovery, caplog: pytest.LogCaptureFixture
) -> None:
    discovery.answers = [NONE, NONE, DENIED, OTHERS, OURS]

    with caplog.at_level(logging.WARNING, logger="waypost"):
        assert wait_for_kind(cluster, threading.Event(), every_s=0.01)

    assert discovery.asked == ["/apis/waypost.io/v1alpha1"] * 5
    said = [record.getMessage() for record in caplog.records]
    assert ["apply k8s/base/crd" in one for one in said] == [True, False, True], "once for each reason"
    assert "403" in said[1]


def test_it_ends_when_it_is_told_to(cluster: ApiServer, discovery: Discovery) -> None:
    discovery.answers = [NONE]
    stop = threading.Event()
    waited: list[bool] = []
    waiting = threading.Thread(target=lambda: waited.append(wait_for_kind(cluster, stop, every_s=60)))
    waiting.start()
    while not discovery.asked:
        stop.wait(0.01)

    stop.set()
    waiting.join(60)

    assert waited == [False]
