"""A cache that the instances of one application share: each finds the others by the Service in front of all of them.

    POD_NAME=peers-1 python main.py peers kubernetes:

Kubernetes follows Service -> selector -> pods and writes the pods that are ready into EndpointSlices; this program
watches those, and needs to see nothing else. Writes are pushed to every peer, and each peer is asked for all it has
when it comes, and once in a while, so what a push missed is made good. Of two writes of one key the later wins.

    curl -X PUT -d red http://127.0.0.1:8080/cache/colour
    curl http://127.0.0.1:8080/cache/colour
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import Discoverer
from waypost.client.registry.opening import open_discoverer

ASK_AGAIN_S = float(os.environ.get("ASK_AGAIN_S", "10"))
Entry = tuple[int, str, Any]
"""When it was written (ms), by whom, and what; None: it is deleted."""


class Cache:
    def __init__(self, me: str) -> None:
        self._me = me
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def get(self, key: str) -> Any:
        with self._lock:
            return self._entries.get(key, (0, "", None))[2]

    def set(self, key: str, value: Any) -> dict[str, Entry]:
        """Write, and return what to push."""
        with self._lock:
            # After what it replaces, also where that was written by a clock ahead of ours.
            at = max(time.time_ns() // 1_000_000, self._entries.get(key, (0, "", None))[0] + 1)
            self._entries[key] = (at, self._me, value)
            return {key: self._entries[key]}

    def all(self) -> dict[str, Entry]:
        with self._lock:
            return dict(self._entries)

    def merge(self, others: dict[str, Any]) -> None:
        with self._lock:
            for key, (at, who, value) in others.items():
                if (at, who) > self._entries.get(key, (0, "", None))[:2]:
                    self._entries[key] = (at, who, value)


class Peers:
    """Everybody of the service but ourselves."""

    def __init__(self, me: str, cache: Cache) -> None:
        self._me = me
        self._cache = cache
        self._lock = threading.Lock()
        self._there: dict[str, Instance] = {}

    def follow(self, discoverer: Discoverer, service: str) -> None:
        """Keep the list, and take over what a new peer has; through outages of the API server, for ever."""
        with discoverer.watch(service) as watch:
            while True:
                events = watch.poll()
                with self._lock:
                    self._there = {id: peer for id, peer in watch.snapshot.callable.items() if id != self._me}
                for event in events:
                    print(event.kind.value, event.instance.id, flush=True)
                    if event.instance.id in self._there:
                        self._take_over(event.instance)

    def ask_again(self) -> None:
        while True:
            time.sleep(ASK_AGAIN_S)
            for peer in self.all():
                self._take_over(peer)

    def all(self) -> list[Instance]:
        with self._lock:
            return list(self._there.values())

    def push(self, entries: dict[str, Entry]) -> None:
        for peer in self.all():
            call(peer, "POST", entries)

    def _take_over(self, peer: Instance) -> None:
        self._cache.merge(call(peer, "GET") or {})


def call(peer: Instance, method: str, body: Any = None) -> Any:
    """Return the answer; None when there is none, which is made good later."""
    data = None if body is None else json.dumps(body).encode()
    host = f"[{peer.address}]" if ":" in peer.address else peer.address
    try:
        request = urllib.request.Request(f"http://{host}:{peer.port}/entries", data, method=method)
        with urllib.request.urlopen(request, timeout=2) as answer:
            return json.loads(answer.read() or b"null")
    except (OSError, ValueError) as error:
        logging.warning("%s does not answer: %s", peer.id, error)
        return None


def handler(cache: Cache, peers: Peers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/entries":
                self._reply(200, cache.all())
            elif self.path == "/peers":
                self._reply(200, sorted(peer.id for peer in peers.all()))
            elif self.path == "/healthz":
                self._reply(200, "ok")
            else:
                found = cache.get(self._key())
                self._reply(404 if found is None else 200, found)

        def do_POST(self) -> None:
            cache.merge(json.loads(self._body()))
            self._reply(200, None)

        def do_PUT(self) -> None:
            peers.push(cache.set(self._key(), self._body().decode()))
            self._reply(200, None)

        def do_DELETE(self) -> None:
            peers.push(cache.set(self._key(), None))
            self._reply(200, None)

        def _key(self) -> str:
            return self.path.removeprefix("/cache/")

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _reply(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main(service: str, registry: str = "kubernetes:") -> None:
    me = os.environ["POD_NAME"]
    cache = Cache(me)
    peers = Peers(me, cache)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), handler(cache, peers))
    discoverer = open_discoverer(registry)
    for run in (lambda: peers.follow(discoverer, service), peers.ask_again):
        threading.Thread(target=run, daemon=True).start()
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
