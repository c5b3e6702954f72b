"""The real cluster: the narrow door over the official client, request by request.

The client does addresses, certificates, tokens and their renewal; what travels is JSON as the API has it, so that a
field that the client does not know is no error. It repeats nothing by itself: whether something is asked again is for
the rules to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException

from waypost.kubernetes_access import api_client
from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, Node, Note, Pod, Reference, Workload
from waypost.repair.opt_out import opted_out
from waypost.repair.port import (
    FIELD_MANAGER,
    CallFailed,
    Conflict,
    Denied,
    NotNow,
    Refused,
    Unavailable,
    known,
    named,
    selecting,
)
from waypost.repair.strategy import at_once
from waypost.wire.fields import cleaned

_PLURAL = {DEPLOYMENT: "deployments", STATEFUL_SET: "statefulsets", DAEMON_SET: "daemonsets"}
_PAGE = 500
_MERGE = "application/merge-patch+json"


def connect(kubeconfig: Path | None, timeout_ms: int) -> ApiServer:
    """Return the cluster that a kubeconfig names; without one, the cluster that this process runs in.

    Raises SettingsError when neither says where that is.
    """
    return ApiServer(api_client(kubeconfig), timeout_ms)


class ApiServer:
    """A `Cluster` by HTTP. Not for several threads at once. `timeout_ms` is for each request as a whole."""

    def __init__(self, client: ApiClient, timeout_ms: int) -> None:
        self._client = client
        self._timeout_s = timeout_ms / 1000

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    # --- Cluster ------------------------------------------------------------------------------

    def pod(self, namespace: str, name: str) -> Pod | None:
        named(namespace=namespace, name=name)
        found = self._get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        return None if found is None else _pod(found)

    def pods(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        named(namespace=namespace)
        selecting(selector)
        wanted = ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
        return self._listed(f"/api/v1/namespaces/{namespace}/pods", labelSelector=wanted)

    def pods_on(self, node: str) -> list[Pod]:
        named(node=node)
        return self._listed("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")

    def evict(self, pod: Pod) -> None:
        known(pod.reference)
        named(uid=pod.uid)
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/eviction"
        try:
            self._call("POST", path, body=body)
        except _Gone:
            return

    def service_selector(self, namespace: str, service: str) -> Mapping[str, str] | None:
        named(namespace=namespace, service=service)
        found = self._get(f"/api/v1/namespaces/{namespace}/services/{service}")
        return None if found is None else dict(found.get("spec", {}).get("selector") or {})

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        named(kind=kind, namespace=namespace, name=name)
        found = self._get(self._workload_path(kind, namespace, name))
        return None if found is None else _workload(kind, found)

    def workload_of(self, pod: Pod) -> Workload | None:
        known(pod.reference)
        owner = pod.owner
        if owner is not None and owner.kind == "ReplicaSet":
            named(owner=owner.name)
            found = self._get(f"/apis/apps/v1/namespaces/{pod.namespace}/replicasets/{owner.name}")
            owner = None if found is None else _controller(found)
        if owner is None or owner.kind not in _PLURAL:
            return None
        return self.workload(owner.kind, pod.namespace, owner.name)

    def change_workload(
        self,
        workload: Workload,
        *,
        annotations: Mapping[str, str],
        template: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> None:
        known(workload.reference)
        named(version=workload.resource_version)
        spec: dict[str, Any] = {}
        if template:
            spec["template"] = {"metadata": {"annotations": dict(template)}}
        if replicas is not None:
            spec["replicas"] = replicas
        self._patch(
            self._workload_path(workload.kind, workload.namespace, workload.name),
            workload.resource_version, workload.uid, annotations, spec,
        )  # fmt: skip

    def node(self, name: str) -> Node | None:
        named(name=name)
        found = self._get(f"/api/v1/nodes/{name}")
        return None if found is None else _node(found)

    def change_node(self, node: Node, *, unschedulable: bool | None, annotations: Mapping[str, str | None]) -> None:
        known(node.reference)
        named(version=node.resource_version)
        spec = {} if unschedulable is None else {"unschedulable": unschedulable}
        self._patch(f"/api/v1/nodes/{node.name}", node.resource_version, node.uid, annotations, spec)

    def tell(self, note: Note) -> None:
        known(note.about)
        about = note.about
        namespace = about.namespace or "default"
        at = datetime.fromtimestamp(note.at / 1000, timezone.utc)
        # The same words about the same thing have the same name: the second one is a conflict.
        told = f"{note.id}\n{note.reason}\n{note.message}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{about.name[:200]}.{blake2b(told.encode(), digest_size=8).hexdigest()}",
                "namespace": namespace,
            },
            "involvedObject": {
                "apiVersion": "apps/v1" if about.kind in _PLURAL else "v1",
                "kind": about.kind,
                "name": about.name,
                "namespace": about.namespace,
                "uid": about.uid or (about.name if about.kind == "Node" else ""),
            },
            "reason": note.reason,
            "message": note.message[:1024],
            "type": "Warning" if note.warning else "Normal",
            "action": note.id,
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": FIELD_MANAGER,
        }
        try:
            self._call("POST", f"/api/v1/namespaces/{namespace}/events", body=body)
        except Conflict:
            return

    # --- requests -----------------------------------------------------------------------------

    def _workload_path(self, kind: str, namespace: str, name: str) -> str:
        if kind not in _PLURAL:
            raise Refused(f"{kind} is no workload that can be repaired")
        return f"/apis/apps/v1/namespaces/{namespace}/{_PLURAL[kind]}/{name}"

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            return self._call("GET", path)
        except _Gone:
            return None

    def _listed(self, path: str, **selectors: str) -> list[Pod]:
        """Return every page of a list."""
        found: list[Pod] = []
        query = {**selectors, "limit": str(_PAGE)}
        while True:
            page = self._call("GET", path, query=query)
            found += [_pod(item) for item in page.get("items") or ()]
            if not (token := page.get("metadata", {}).get("continue")):
                return found
            query["continue"] = token

    def _patch(
        self, path: str, version: str, uid: str, annotations: Mapping[str, str | None], spec: Mapping[str, Any]
    ) -> None:
        # The version and the uid in a patch are what it is based on: another one is answered 409.
        metadata = {"resourceVersion": version, "uid": uid, "annotations": dict(annotations)}
        body = {"metadata": metadata, **({"spec": spec} if spec else {})}
        try:
            self._call("PATCH", path, body=body)
        except _Gone as error:
            raise Conflict(str(error)) from error

    def _call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        asked = dict(query or {})
        if method != "GET":
            asked["fieldManager"] = FIELD_MANAGER
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _MERGE if method == "PATCH" else "application/json"
        try:
            _, url, headers, body, _ = self._client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            if asked:
                url = f"{url}?{urlencode(asked)}"
            answer = self._client.call_api(method, url, headers, body, _request_timeout=self._timeout_s)
            data = answer.read()  # type: ignore[no-untyped-call]
        # Credentials are renewed on the way, too: a token that is being written may be empty for a moment.
        except (urllib3.exceptions.HTTPError, ApiException, ConfigException, OSError) as error:
            raise Unavailable(f"{method} {path}: {type(error).__name__}") from error
        if 200 <= answer.status < 300:
            return _object(method, path, data)
        raise _failure(method, path, answer.status, data)


class _Gone(CallFailed):
    """404."""


def _object(method: str, path: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Unavailable(f"{method} {path}: the answer is no JSON") from error
    if not isinstance(found, dict):
        raise Unavailable(f"{method} {path}: the answer is no object")
    return found


def _failure(method: str, path: str, status: int, data: bytes) -> CallFailed:
    try:
        said = json.loads(data)
        message = cleaned(str(said.get("message", "")), 300)
        causes = [str(c.get("reason", "")) for c in (said.get("details") or {}).get("causes") or ()]
    except (ValueError, AttributeError):
        message, causes = "", []
    told = f"{method} {path}: {status} {message}".strip()
    if status == 404:
        return _Gone(told)
    if status == 409:
        return Conflict(told)
    if status == 429 and (path.endswith("/eviction") and (not causes or "DisruptionBudget" in causes)):
        return NotNow(message or told)
    if status in (408, 429) or status >= 500:
        return Unavailable(told)
    if status in (401, 403):
        return Denied(told)
    if not message and status in (301, 302, 307, 308):
        return Refused(f"{told}: a redirect is not followed")
    return Refused(told)


# --- objects ------------------------------------------------------------------------------------


def _pod(item: Mapping[str, Any]) -> Pod:
    meta, spec, status = item.get("metadata", {}), item.get("spec", {}), item.get("status", {})
    conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        node=spec.get("nodeName") or "",
        phase=status.get("phase") or "",
        ready=conditions.get("Ready") == "True",
        deleting=meta.get("deletionTimestamp") is not None,
        mirror="kubernetes.io/config.mirror" in (meta.get("annotations") or {}),
        labels=dict(meta.get("labels") or {}),
        owner=_controller(item),
        opted_out=_opted_out(meta),
    )


def _opted_out(meta: Mapping[str, Any]) -> bool:
    return opted_out(meta.get("labels") or {}, meta.get("annotations") or {})


def _controller(item: Mapping[str, Any]) -> Reference | None:
    meta = item.get("metadata", {})
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            return Reference(owner["kind"], meta["namespace"], owner["name"], owner.get("uid", ""))
    return None


def _workload(kind: str, item: Mapping[str, Any]) -> Workload:
    meta, spec, status = item.get("metadata", {}), item.get("spec", {}), item.get("status", {})
    if kind == DAEMON_SET:
        replicas = int(status.get("desiredNumberScheduled") or 0)
        existing = int(status.get("currentNumberScheduled") or 0)
        updated = int(status.get("updatedNumberScheduled") or 0)
        ready = int(status.get("numberReady") or 0)
    else:
        wanted = spec.get("replicas")
        replicas = 1 if wanted is None else int(wanted)
        existing = int(status.get("replicas") or 0)
        updated = int(status.get("updatedReplicas") or 0)
        ready = int(status.get("readyReplicas") or 0)
    return Workload(
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=int(meta.get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        replicas=replicas,
        existing=existing,
        updated=updated,
        ready=ready,
        at_once=at_once(kind, spec, replicas),
        annotations=dict(meta.get("annotations") or {}),
        selector=dict((spec.get("selector") or {}).get("matchLabels") or {}),
        opted_out=_opted_out(meta),
    )


def _node(item: Mapping[str, Any]) -> Node:
    meta, spec, status = item.get("metadata", {}), item.get("spec", {}), item.get("status", {})
    conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
    return Node(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        unschedulable=bool(spec.get("unschedulable")),
        ready=conditions.get("Ready") == "True",
        annotations=dict(meta.get("annotations") or {}),
        opted_out=_opted_out(meta),
        touched_at=_touched_at(meta),
    )


def _touched_at(meta: Mapping[str, Any]) -> int:
    """Return when another field manager last wrote to the object, its status aside, epoch ms. Who uncordons a node owns
    nothing of it, but the control plane takes its taint away at that moment."""
    told = [
        one.get("time")
        for one in meta.get("managedFields") or ()
        if one.get("manager") != FIELD_MANAGER and one.get("subresource") != "status"
    ]
    try:
        return max(
            (int(datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() * 1000) for at in told if at), default=0
        )
    except (AttributeError, ValueError):
        return 0
