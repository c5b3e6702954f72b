"""Be found, and find others, through the agent beside you: HTTP on a unix socket, and no library of Waypost's.

    waypost agent --upstream=kafka:9092 --redis=redis://redis:6379/0 --service-registry=/var/run/service.sock
    python main.py /var/run/service.sock hello

Kill it with SIGKILL and the agent sees within seconds that nobody answers; nobody is sent here any more.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("agent")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def ask(agent: str, method: str, url: str, body: Any = None, host: str = "agent") -> tuple[int, str]:
    """Return status and text of the agent's answer, or of a service's that it was asked for by `host`."""
    connection = Connection(agent)
    try:
        connection.request(method, url, None if body is None else json.dumps(body), {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello from port {self.server.server_address[1]}".encode())

    def log_message(self, *_: object) -> None:
        pass


def main(agent: str, service: str) -> None:
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()

    me = f"/v1/instances/{service}/{service}-{port}"
    here = {"address": "127.0.0.1", "port": port, "check": {"http": {"path": "/", "interval": 1}}}
    status, text = ask(agent, "PUT", me, here)
    if status not in (200, 202):
        sys.exit(f"not registered: {text}")
    print("registered", flush=True)

    while not told.is_set() and '"routable":true' not in ask(agent, "GET", f"{me}/registered")[1]:
        time.sleep(0.1)
    print("in the table", flush=True)
    print(ask(agent, "GET", "/", host=f"{service}.waypost")[1], flush=True)

    told.wait()
    ask(agent, "POST", f"{me}/drain")
    ask(agent, "DELETE", me)
    print("deregistered", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
