"""The fake API server: EndpointSlices over HTTP as kube-apiserver serves them, with the accidents that take it hours.

List with pages and `resourceVersionMatch=Exact`, watch from a version with bookmarks, 410 for history that is gone. It
passes the contract that the real one passes (tests/contracts/test_kubernetes.py), and starts in no time.
"""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Doc = dict[str, Any]


class SliceServer:
    """One namespace, whatever it is called. `url` stays the same through `stop` and `start`."""

    def __init__(self, *, page: int = 500) -> None:
        self.asked: list[dict[str, str]] = []
        """The query of every call."""
        self.refusal: tuple[int, str] | None = None
        """What every call gets instead of an answer: status and message."""
        self.before_watch: Callable[[], None] | None = None
        """What happens once, when the next watch has been asked for and is not open yet."""
        self._page = page
        self._changed = threading.Condition()
        self._copy = 0
        self._version, self._oldest = 100, 100
        self._history: list[tuple[int, str, Doc]] = []
        self._slices: dict[str, Doc] = {}
        self._past: dict[int, dict[str, Doc]] = {100: {}}
        self._said: list[Doc] = []
        self._generation = 0
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # -- life and accidents ----------------------------------------------------------------------------

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.fake = self
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Go away; what is known stays."""
        if self._server is not None:
            self.end_watches()
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def end_watches(self) -> None:
        """End every watch in good order, as the real one does after some minutes."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def say_error(self, code: int, reason: str) -> None:
        """Send every open watch an ERROR event and end it."""
        status = {"kind": "Status", "code": code, "reason": reason, "message": reason}
        with self._changed:
            self._said.append({"type": "ERROR", "object": status})
            self._generation += 1
            self._changed.notify_all()

    def compact(self) -> None:
        """Forget all history: who goes on from an older version gets 410."""
        with self._changed:
            self._version += 1
            self._oldest = self._version
            self._past = {self._version: copy.deepcopy(self._slices)}
            self._history.clear()

    def wipe(self, *, ends_watches: bool = True) -> None:
        """Begin anew at a lower version, as a store put back to an old copy does."""
        with self._changed:
            self._copy += 1
            self._version = self._oldest = 50
            self._slices, self._past = {}, {50: {}}
            self._history.clear()
        if ends_watches:
            self.end_watches()

    # -- what is there ---------------------------------------------------------------------------------

    def put(self, doc: Doc) -> None:
        with self._changed:
            name = doc["metadata"]["name"]
            self._note("MODIFIED" if name in self._slices else "ADDED", name, copy.deepcopy(doc))

    def drop(self, name: str) -> None:
        with self._changed:
            if name in self._slices:
                self._note("DELETED", name, self._slices[name])

    def bookmark(self) -> None:
        """Let the version grow by what others do elsewhere, and tell the watches of it."""
        with self._changed:
            self._version += 10
            self._past[self._version] = dict(self._slices)
            doc = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self._version)}}
            self._history.append((self._version, "BOOKMARK", doc))
            self._changed.notify_all()

    def _note(self, kind: str, name: str, doc: Doc) -> None:
        self._version += 1
        doc = {**doc, "metadata": {**doc["metadata"], "resourceVersion": str(self._version)}}
        if kind == "DELETED":
            del self._slices[name]
        else:
            self._slices[name] = doc
        self._past[self._version] = dict(self._slices)
        self._history.append((self._version, kind, doc))
        self._changed.notify_all()

    # -- answers ---------------------------------------------------------------------------------------

    def answer(self, query: dict[str, str]) -> tuple[int, Doc]:
        matches = _matcher(query.get("labelSelector", ""))
        with self._changed:
            self.asked.append(query)
            if self.refusal is not None:
                return self.refusal[0], {"kind": "Status", "message": self.refusal[1]}
            version, begin = self._version, 0
            if query.get("resourceVersionMatch") == "Exact":
                version = int(query["resourceVersion"])
                if version > self._version:
                    return 504, {"kind": "Status", "message": "Too large resource version"}
            if "continue" in query:
                version, begin = map(int, query["continue"].split("."))
            past = self._past.get(max((v for v in self._past if v <= version), default=0))
            if version < self._oldest or past is None:
                return 410, {"kind": "Status", "reason": "Expired", "message": "The provided version is too old"}
            items = [doc for _, doc in sorted(past.items()) if matches(doc)]
            end = begin + min(self._page, int(query.get("limit", self._page)))
            metadata = {"resourceVersion": str(version)}
            if end < len(items):
                metadata["continue"] = f"{version}.{end}"
            return 200, {"kind": "EndpointSliceList", "metadata": metadata, "items": items[begin:end]}

    def follow(self, query: dict[str, str], send: Callable[[Doc], None]) -> None:
        """Send events until the watch ends."""
        matches = _matcher(query.get("labelSelector", ""))
        seen = int(query["resourceVersion"])
        with self._changed:
            self.asked.append(query)
            generation, copy_followed = self._generation, self._copy
            if seen < self._oldest:
                send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
                return
            while generation == self._generation:
                if copy_followed != self._copy:
                    seen, copy_followed = self._oldest, self._copy
                for version, kind, doc in [each for each in self._history if each[0] > seen]:
                    seen = version
                    if kind == "BOOKMARK" or matches(doc):
                        send({"type": kind, "object": doc})
                self._changed.wait()
            for event in self._said:
                send(event)
            self._said.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: SliceServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def cut(self) -> None:
        for each in self._connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        fake: SliceServer = self.server.fake
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        is_watch = query.get("watch", "").lower() in ("true", "1")
        if not parts.path.endswith("/endpointslices"):
            self._reply(404, {"kind": "Status", "message": "the server could not find the requested resource"})
        elif not is_watch or fake.refusal is not None:
            self._reply(*fake.answer(query))
        else:
            happens, fake.before_watch = fake.before_watch, None
            if happens is not None:
                happens()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = True
            try:
                fake.follow(query, self._send_chunk)
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass

    def _reply(self, status: int, doc: Doc) -> None:
        body = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_chunk(self, event: Doc) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def _matcher(selector: str) -> Callable[[Doc], bool]:
    wanted = [each.partition("=") for each in selector.split(",") if each]

    def matches(doc: Doc) -> bool:
        labels = doc["metadata"].get("labels", {})
        return all(labels.get(key) == value if equal else key in labels for key, equal, value in wanted)

    return matches
