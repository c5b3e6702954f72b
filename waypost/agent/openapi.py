"""The agent's API as an OpenAPI 3.1 document. A test holds it against the routes and against real answers."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from waypost.agent.checks import LONGEST, SHORTEST
from waypost.agent.roster import Stage
from waypost.model.events import (
    DEFAULT_LEASE_SECONDS,
    DEFAULT_WEIGHT,
    MAX_LEASE_SECONDS,
    MAX_WEIGHT,
    MIN_LEASE_SECONDS,
)
from waypost.model.lifecycle import Health, Status

_TEXT = {"type": "string"}
_BOOL = {"type": "boolean"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65_535}
_METADATA = {"type": "object", "additionalProperties": _TEXT, "description": "8 KiB at most"}
_TIMES = {
    "timeout": {"type": "number", "minimum": SHORTEST, "maximum": 60, "default": 2},
    "interval": {"type": "number", "minimum": SHORTEST, "maximum": LONGEST, "default": 5},
}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _check(kind: str, description: str, **more: Any) -> dict[str, Any]:
    return {**_object((kind,), **{kind: _object(**more)}), "description": description}


_ATTRIBUTES: dict[str, Any] = {
    "address": {"type": "string", "description": "IPv4, IPv6 or a DNS name that others can call"},
    "port": _PORT,
    "weight": {"type": "integer", "minimum": 0, "maximum": MAX_WEIGHT, "default": DEFAULT_WEIGHT},
    "zone": {"type": "string", "description": "default: the agent's"},
    "node": {"type": "string", "description": "default: the agent's"},
    "metadata": _METADATA,
    "lease_seconds": {
        "type": "integer",
        "minimum": MIN_LEASE_SECONDS,
        "maximum": MAX_LEASE_SECONDS,
        "default": DEFAULT_LEASE_SECONDS,
    },
    "check": _ref("Check"),
}

_SCHEMAS: dict[str, Any] = {
    "Check": {
        "description": "How the agent looks whether it lives; default: tcp",
        "oneOf": [
            _check("tcp", "somebody accepts a connection", port=_PORT, **_TIMES),
            _check("http", "a GET is answered with 200 to 299", port=_PORT, path=_TEXT, **_TIMES),
            _check("grpc", "grpc.health.v1 says SERVING", port=_PORT, service=_TEXT, **_TIMES),
            _check(
                "exec",
                "a program ends with status 0; only with --allow-exec",
                command={"type": "array", "items": _TEXT, "minItems": 1},
                **_TIMES,
            ),
            _check("none", "nobody looks"),
        ],
    },
    "Registration": _object(("address", "port"), **_ATTRIBUTES),
    "Member": _object(
        ("service", "instance", "stage", "health", "told", *_ATTRIBUTES),
        service=_TEXT,
        instance=_TEXT,
        stage={"enum": [stage.value for stage in Stage]},
        health={"enum": [health.value for health in Health]},
        told={"type": "boolean", "description": "whether the log has acknowledged all of this"},
        waiting={
            "type": "array",
            "items": _TEXT,
            "description": "of a drain with `readers`: who has not moved on in time",
        },
        **_ATTRIBUTES,
    ),
    "Gone": _object(
        ("service", "instance", "stage", "told"),
        service=_TEXT,
        instance=_TEXT,
        stage={"type": "null"},
        told={"const": True},
    ),
    "Members": _object(("instances",), instances={"type": "array", "items": _ref("Member")}),
    "Registered": _object(
        ("registered", "routable", "status", "reason"),
        registered=_BOOL,
        routable={"type": "boolean", "description": "whether gateways call it"},
        status={"enum": [*(status.value for status in Status), None]},
        reason={"type": "string", "description": "why it is or is not called; see docs/lifecycle.md"},
    ),
    "Instance": _object(
        ("service", "instance", "address", "port", "weight", "status", "zone", "metadata"),
        service=_TEXT,
        instance=_TEXT,
        address=_TEXT,
        port=_PORT,
        weight={"type": "integer"},
        status={"enum": [status.value for status in Status]},
        zone=_TEXT,
        metadata=_METADATA,
    ),
    "Table": _object(
        ("service", "instances", "stale", "stale_seconds"),
        service=_TEXT,
        instances={"type": "array", "items": _ref("Instance")},
        stale={"type": "boolean", "description": "the registry does not confirm it now; it is what was last known"},
        stale_seconds={"type": "number", "description": "for how long; 0 when it is not stale"},
    ),
    "Services": _object(("services",), services={"type": "array", "items": _TEXT}),
    "Health": _object(("status",), status=_TEXT, untold={"type": "integer"}),
    "Error": _object(("status", "reason"), status={"const": "error"}, reason=_TEXT),
}

_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "seconds to wait for the log",
    "schema": {"type": "number", "minimum": 0, "maximum": 60, "default": 5},
}
_READERS = {
    "name": "readers",
    "in": "query",
    "description": "seconds to wait, then, until it is out of the table and all readers that acknowledge have moved on",
    "schema": {"type": "number", "minimum": 0, "maximum": 60},
}
_KEY = {"name": "key", "in": "query", "description": "for balancers that go by it", "schema": _TEXT}


def _path(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]


def _answer(schema: str | dict[str, Any], description: str = "done") -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(schema) if isinstance(schema, str) else schema}}
    return {"description": description, "content": content}


def _operation(summary: str, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"summary": summary, "responses": {**answers, "default": _answer("Error", "why not")}, **more}


_CHANGED = {
    "200": _answer({"oneOf": [_ref("Member"), _ref("Gone")]}, "done, and the log has it"),
    "202": _answer("Member", "noted; the log will have it as soon as Kafka takes it"),
}
_WHO = _path("service", "instance")

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Waypost agent", "version": metadata.version("waypost")},
    "paths": {
        "/v1/instances": {"get": _operation("all this agent looks after", {"200": _answer("Members")})},
        "/v1/instances/{service}/{instance}": {
            "parameters": _WHO,
            "get": _operation("one this agent looks after", {"200": _answer("Member")}),
            "put": _operation(
                "register, or register anew",
                _CHANGED,
                parameters=[_WAIT],
                requestBody={"required": True, "content": {"application/json": {"schema": _ref("Registration")}}},
            ),
            "delete": _operation("deregister", _CHANGED, parameters=[_WAIT]),
        },
        "/v1/instances/{service}/{instance}/drain": {
            "parameters": _WHO,
            "post": _operation("take it out of the table, keep it registered", _CHANGED, parameters=[_WAIT, _READERS]),
        },
        "/v1/instances/{service}/{instance}/registered": {
            "parameters": _WHO,
            "get": _operation(
                "am I registered, and called?",
                {"200": _answer("Registered", "yes"), "404": _answer("Registered", "the tables do not know it")},
            ),
        },
        "/v1/services": {"get": _operation("all services", {"200": _answer("Services")})},
        "/v1/services/{service}": {
            "parameters": _path("service"),
            "get": _operation("the instances that may be called", {"200": _answer("Table")}),
        },
        "/v1/services/{service}/pick": {
            "parameters": _path("service"),
            "get": _operation("one instance to call", {"200": _answer("Instance")}, parameters=[_KEY]),
        },
        "/v1/services/{service}/watch": {
            "parameters": _path("service"),
            "get": _operation(
                "what is there, comes, changes and goes",
                {
                    "200": {
                        "description": "events snapshot, add, update, delete and stale",
                        "content": {"text/event-stream": {"schema": _TEXT}},
                    }
                },
            ),
        },
        "/healthz": {"get": _operation("does it run?", {"200": _answer("Health")})},
        "/readyz": {
            "get": _operation(
                "does Kafka take records?", {"200": _answer("Health", "yes"), "503": _answer("Health", "no")}
            )
        },
        "/metrics": {
            "get": _operation(
                "for Prometheus", {"200": {"description": "text", "content": {"text/plain": {"schema": _TEXT}}}}
            )
        },
        "/openapi.json": {"get": _operation("this", {"200": _answer({"type": "object"})})},
    },
    "components": {"schemas": _SCHEMAS},
}
