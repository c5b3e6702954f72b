"""The API server as the controller uses it: read an object, apply one, delete one, tell a status.

Objects are plain data. They are written by server-side apply under one field manager: the same wish twice changes
nothing, and what others say of an object stays theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from waypost.controller.objects import DISCOVERIES, Kind
from waypost.errors import ClusterUnavailable

FIELD_MANAGER = "waypost-controller"
_PAGE = 500
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"


class Cluster(Protocol):
    """What a pass needs of a cluster. All raise ClusterUnavailable when it cannot be asked or refuses."""

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None: ...
    def discoveries(self, namespace: str) -> list[dict[str, Any]]: ...
    def apply(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None: ...
    def tell(self, namespace: str, name: str, status: Mapping[str, Any]) -> None: ...


class ApiServer:
    """A `Cluster` by HTTP; safe for several threads. `timeout_s` is for each request as a whole."""

    def __init__(self, client: ApiClient, timeout_s: float = 10.0) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def serves(self, kind: Kind) -> bool:
        """Tell whether the API server knows the kind: its CustomResourceDefinition is there, and has been read."""
        listed = self._call("GET", kind.root, absent=True) or {}
        return any(one.get("name") == kind.plural for one in listed.get("resources") or [])

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, None when there is none, nor its kind."""
        return self._call("GET", kind.path(namespace, name), absent=True)

    def discoveries(self, namespace: str) -> list[dict[str, Any]]:
        """Return all of a namespace."""
        found: list[dict[str, Any]] = []
        query = {"limit": str(_PAGE)}
        while True:
            page = self._call("GET", DISCOVERIES.path(namespace), query=query) or {}
            found += page.get("items") or []
            if not (token := (page.get("metadata") or {}).get("continue")):
                return found
            query["continue"] = token

    def apply(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object say what `body` says, taking over fields that somebody changed; return it."""
        metadata = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        path = kind.path(metadata["namespace"], metadata["name"])
        return self._call("PATCH", path, query=query, body=body, content=_APPLY) or {}

    def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Ask for the deletion of exactly this object; one that is gone or another by now is no error."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        self._call("DELETE", kind.path(namespace, name), body=body, absent=True)

    def tell(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Change a status; fields that are None are removed. An object that is gone is no error."""
        path = f"{DISCOVERIES.path(namespace, name)}/status"
        query = {"fieldManager": FIELD_MANAGER}
        self._call("PATCH", path, query=query, body={"status": dict(status)}, content=_MERGE, absent=True)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content: str = "application/json",
        absent: bool = False,
    ) -> dict[str, Any] | None:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content
        _, url, headers, body, _ = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        if query:
            url = f"{url}?{urlencode(query)}"
        try:
            answer = self._client.call_api(method, url, headers, body, _request_timeout=self._timeout_s)
            data = answer.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise ClusterUnavailable(f"{method} {path}: {type(error).__name__}") from error
        if absent and (answer.status == 404 or (method == "DELETE" and answer.status == 409)):
            return None
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not 200 <= answer.status < 300 or not isinstance(found, dict):
            said = found.get("message", "") if isinstance(found, dict) else ""
            raise ClusterUnavailable(f"{method} {path}: {answer.status} {str(said)[:1000]}".strip())
        return found
