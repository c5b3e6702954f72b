"""The fake cluster behind a real socket, speaking the API's HTTP and JSON: the adapter and whole jobs are tested on it.

Rules are the fake's (`waypost.repair.fake`); this only translates.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from waypost.repair.fake import FakeCluster
from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, Node, Note, Pod, Reference, Workload
from waypost.repair.opt_out import OPT_OUT
from waypost.repair.port import FIELD_MANAGER, CallFailed, Conflict, EmptyName, NotNow, Unavailable

_KINDS = {"deployments": DEPLOYMENT, "statefulsets": STATEFUL_SET, "daemonsets": DAEMON_SET}
_NAME = r"([a-z0-9][-.a-z0-9]*)"


@dataclass
class Requests:
    """What the server was asked: every request, and those that changed something, by (method, path)."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    all: list[tuple[str, str]] = field(default_factory=list)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    managers: set[str] = field(default_factory=set)
    before: Callable[[str, str], None] = lambda method, path: None
    """Called before a change; may block."""
    after: Callable[[str, str], None] = lambda method, path: None
    """Called after a change and before its answer; may block."""
    page: int = 2
    """A list is answered in pages of so many."""

    def changed(self, ending: str) -> int:
        """Return how many changes were made at paths that end so."""
        with self.lock:
            return sum(n for (_, path), n in self.changes.items() if path.endswith(ending))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: FakeCluster
    requests: Requests

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        found = urlsplit(self.path)
        query = dict(parse_qsl(found.query))
        with self.requests.lock:
            self.requests.all.append((self.command, found.path))
        try:
            if self.command != "GET":
                self.requests.before(self.command, found.path)
            answer = self._answer(found.path, query, body)
            if self.command != "GET" and answer is not None:
                with self.requests.lock:
                    self.requests.changes[self.command, found.path] += 1
                    self.requests.managers.add(query.get("fieldManager", ""))
                self.requests.after(self.command, found.path)
        except Conflict as error:
            return self._say(409, {"message": str(error)})
        except NotNow as error:
            cause = {"reason": "DisruptionBudget", "message": str(error)}
            return self._say(429, {"message": str(error), "details": {"causes": [cause]}})
        except Unavailable as error:
            status = int(str(error)) if str(error).isdigit() else 500
            return self._say(status, {"message": "as ordered"})
        except EmptyName as error:
            return self._say(422, {"message": str(error)})
        except CallFailed as error:
            status = int(str(error)) if str(error).isdigit() else 403
            return self._say(status, {"message": str(error)})
        if answer is None:
            return self._say(404, {"message": "not found"})
        return self._say(200 if self.command != "POST" else 201, answer)

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, path: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any] | None:
        cluster = self.cluster
        if found := re.fullmatch(f"/api/v1/namespaces/{_NAME}/pods/{_NAME}", path):
            pod = cluster.pod(*found.groups())
            return None if pod is None else pod_json(pod)
        if found := re.fullmatch(f"/api/v1/namespaces/{_NAME}/pods", path):
            wanted = dict(pair.split("=", 1) for pair in query["labelSelector"].split(","))
            return self._page([pod_json(pod) for pod in cluster.pods(found[1], wanted)], query)
        if path == "/api/v1/pods":
            node = query["fieldSelector"].removeprefix("spec.nodeName=")
            return self._page([pod_json(pod) for pod in cluster.pods_on(node)], query)
        if found := re.fullmatch(f"/api/v1/namespaces/{_NAME}/pods/{_NAME}/eviction", path):
            pod = cluster.pod(*found.groups())
            if pod is None:
                return None
            uid = body["deleteOptions"]["preconditions"]["uid"]
            if uid != pod.uid:
                raise Conflict("the uid of the precondition is another one")
            cluster.evict(pod)
            return {"kind": "Status", "status": "Success"}
        if found := re.fullmatch(f"/api/v1/namespaces/{_NAME}/services/{_NAME}", path):
            selector = cluster.service_selector(*found.groups())
            return None if selector is None else {"spec": {"selector": dict(selector)}}
        if found := re.fullmatch(f"/apis/apps/v1/namespaces/{_NAME}/replicasets/{_NAME}", path):
            return _replica_set(*found.groups())
        if found := re.fullmatch(
            f"/apis/apps/v1/namespaces/{_NAME}/(deployments|statefulsets|daemonsets)/{_NAME}", path
        ):
            return self._workload(_KINDS[found[2]], found[1], found[3], body)
        if found := re.fullmatch(f"/api/v1/nodes/{_NAME}", path):
            return self._node(found[1], body)
        if found := re.fullmatch(f"/api/v1/namespaces/{_NAME}/events", path):
            return self._event(body)
        return None

    def _workload(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        now = self.cluster.workload(kind, namespace, name)
        if now is None:
            return None
        if self.command == "PATCH":
            meta, spec = body["metadata"], body.get("spec", {})
            if meta["uid"] != now.uid:
                raise Conflict("another uid")
            template = spec.get("template", {}).get("metadata", {}).get("annotations")
            self.cluster.change_workload(
                _at(now, meta["resourceVersion"]), annotations=meta["annotations"], template=template,
                replicas=spec.get("replicas"),
            )  # fmt: skip
        found = self.cluster.workload(kind, namespace, name)
        return None if found is None else workload_json(found)

    def _node(self, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        now = self.cluster.node(name)
        if now is None:
            return None
        if self.command == "PATCH":
            meta = body["metadata"]
            self.cluster.change_node(
                _at(now, meta["resourceVersion"]), unschedulable=body.get("spec", {}).get("unschedulable"),
                annotations=meta["annotations"],
            )  # fmt: skip
        found = self.cluster.node(name)
        return None if found is None else node_json(found)

    def _event(self, body: dict[str, Any]) -> dict[str, Any]:
        name, about = body["metadata"]["name"], body["involvedObject"]
        if name in self.cluster.notes:
            raise Conflict("the event is there")
        for needed in ("reason", "action", "reportingComponent", "reportingInstance", "eventTime"):
            if not body.get(needed):
                raise CallFailed(f"{needed} is required")
        reference = Reference(about["kind"], about["namespace"], about["name"], about.get("uid", ""))
        self.cluster.tell(
            Note(
                id=name, about=reference, reason=body["reason"], message=body["message"],
                warning=body["type"] == "Warning", at=0,
            )
        )  # fmt: skip
        return body

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        start, size = int(query.get("continue", "0")), self.requests.page
        rest = len(items) > start + size
        return {"items": items[start : start + size], "metadata": {"continue": str(start + size) if rest else ""}}


def _at(thing: Any, version: str) -> Any:
    return replace(thing, resource_version=version)


def _replica_set(namespace: str, name: str) -> dict[str, Any]:
    owner = {"kind": DEPLOYMENT, "name": name.rpartition("-")[0], "uid": "", "controller": True}
    return {"metadata": {"namespace": namespace, "name": name, "ownerReferences": [owner]}}


def _opt_out(out: bool) -> dict[str, str]:
    return {OPT_OUT: "off"} if out else {}


def pod_json(pod: Pod) -> dict[str, Any]:
    meta: dict[str, Any] = {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "labels": dict(pod.labels)}
    if pod.opted_out:
        meta["labels"][OPT_OUT] = "off"
    if pod.deleting:
        meta["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    if pod.mirror:
        meta["annotations"] = {"kubernetes.io/config.mirror": "x"}
    if pod.owner is not None:
        meta["ownerReferences"] = [
            {"kind": pod.owner.kind, "name": pod.owner.name, "uid": pod.owner.uid, "controller": True}
        ]
    ready = [{"type": "Ready", "status": str(pod.ready)}]
    return {"metadata": meta, "spec": {"nodeName": pod.node}, "status": {"phase": pod.phase, "conditions": ready}}


def workload_json(w: Workload) -> dict[str, Any]:
    meta = {
        "namespace": w.namespace, "name": w.name, "uid": w.uid, "resourceVersion": w.resource_version,
        "generation": w.generation, "annotations": dict(w.annotations), "labels": _opt_out(w.opted_out),
    }  # fmt: skip
    status: dict[str, Any] = {"observedGeneration": w.observed_generation}
    if w.kind == DAEMON_SET:
        status |= {
            "desiredNumberScheduled": w.replicas, "currentNumberScheduled": w.existing,
            "updatedNumberScheduled": w.updated, "numberReady": w.ready,
        }  # fmt: skip
    else:
        status |= {"replicas": w.existing, "updatedReplicas": w.updated, "readyReplicas": w.ready}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": w.at_once, "maxSurge": 0}}
    spec = {
        "replicas": w.replicas,
        "selector": {"matchLabels": dict(w.selector)},
        "strategy" if w.kind == DEPLOYMENT else "updateStrategy": rolling,
    }
    return {"metadata": meta, "spec": spec, "status": status}


def node_json(node: Node) -> dict[str, Any]:
    meta = {
        "name": node.name, "uid": node.uid, "resourceVersion": node.resource_version,
        "annotations": dict(node.annotations), "labels": _opt_out(node.opted_out),
    }  # fmt: skip
    if node.touched_at:
        at = datetime.fromtimestamp(node.touched_at / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        later = "2099-01-01T00:00:00Z"
        meta["managedFields"] = [
            {"manager": FIELD_MANAGER, "operation": "Update", "time": later},
            {"manager": "kubelet", "operation": "Update", "subresource": "status", "time": later},
            {"manager": "kube-controller-manager", "operation": "Update", "time": at},
        ]
    ready = [{"type": "Ready", "status": str(node.ready)}]
    return {"metadata": meta, "spec": {"unschedulable": node.unschedulable}, "status": {"conditions": ready}}


@dataclass
class Served:
    """A fake API server that runs."""

    cluster: FakeCluster
    requests: Requests
    port: int

    def kubeconfig(self, directory: Path) -> Path:
        """Write a kubeconfig for it."""
        named = {"name": "fake"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{**named, "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{**named, "user": {"token": "t"}}],
            "contexts": [{**named, "context": {"cluster": "fake", "user": "fake"}}],
        }
        path = directory / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return path


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that did not wait for its answer."""


@contextmanager
def served(cluster: FakeCluster) -> Iterator[Served]:
    requests = Requests()
    handler = type("Handler", (_Handler,), {"cluster": cluster, "requests": requests})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Served(cluster, requests, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
