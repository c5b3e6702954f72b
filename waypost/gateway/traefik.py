"""Traefik's dynamic configuration: one tree, served whole to its HTTP provider or key by key to its Redis provider.

Two routers per service, by host and by path (the prefix is cut off). Their priorities are the lowest there are, so any
router that somebody wrote by hand wins. Names have an underscore where no name of a service can have one, so none
collides with another.

Traefik fails in its own ways, and the shape of the tree is the answer to some of them:

- an empty map refuses the whole document, hence none is ever written;
- a service without servers and without `passHostHeader` vanishes, and its router answers 404 instead of 503;
- a `retry` tries again only what was not sent yet, so it is safe for every method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import orjson

from waypost.gateway.pool import Pool, Target
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey
from waypost.wire.addresses import join_endpoint

RETRY = "waypost-retry"
TRANSPORT = "waypost"
TRIES = 8
"""The first included. An instance that was killed stays in the table for its lease, and each try goes to the balancer's
next server. Other requests move that on in between, so at worst a try meets the dead one again by chance: with one of
four dead, 3 tries fail once in 64 requests, 8 once in 65,536. Only what was not sent yet is tried again: a try is one
connection more that is refused."""
DIAL_TIMEOUT = "1s"
"""For a machine that is gone, which refuses nothing. Traefik's own 30 s are longer than most callers wait."""

HOST_PRIORITY, PATH_PRIORITY = 2, 1

Tree: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Kind (`routers`, `services`, …) → name → definition; what stands under `http`."""

COMMON: Tree = {
    "middlewares": {RETRY: {"retry": {"attempts": TRIES}}},
    "serversTransports": {TRANSPORT: {"forwardingTimeouts": {"dialTimeout": DIAL_TIMEOUT}}},
}
"""What all services share. It is always there, also when there is no service at all."""


def name_of(service: ServiceKey) -> str:
    """Return the name of a service in Traefik. A namespace has no dots, so no two services share one."""
    return f"{service.service}.{service.namespace}"


def definitions(service: ServiceKey, pool: Pool, rules: Rules) -> Tree:
    """Return everything that is about one service."""
    name = name_of(service)
    routers: dict[str, Any] = {}
    middlewares: dict[str, Any] = {}
    if (host := rules.host_of(service)) is not None:
        routers[f"{name}_host"] = {
            "rule": f"Host(`{host}`)",
            "priority": HOST_PRIORITY,
            "middlewares": [RETRY],
            "service": name,
        }
    if (prefix := rules.prefix_of(service)) is not None:
        middlewares[f"{name}_strip"] = {"stripPrefix": {"prefixes": [prefix]}}
        routers[f"{name}_path"] = {
            "rule": f"Path(`{prefix}`) || PathPrefix(`{prefix}/`)",
            "priority": PATH_PRIORITY,
            "middlewares": [f"{name}_strip", RETRY],
            "service": name,
        }
    balancer: dict[str, Any] = {"passHostHeader": True, "serversTransport": TRANSPORT}
    if servers := [_server(target) for target in pool if not target.draining]:
        balancer["servers"] = servers
    tree: dict[str, dict[str, Any]] = {"routers": routers, "services": {name: {"loadBalancer": balancer}}}
    if middlewares:
        tree["middlewares"] = middlewares
    return tree


def document(trees: Iterable[Tree]) -> bytes:
    """Return the document of the HTTP provider. The same trees in the same order give the same bytes.

    Definitions may be `orjson.Fragment`s: what did not change need not be written anew.
    """
    http: dict[str, dict[str, Any]] = {}
    for tree in (COMMON, *trees):
        for kind, named in tree.items():
            http.setdefault(kind, {}).update(named)
    return orjson.dumps({"http": http})


def keys(root: str, trees: Iterable[Tree]) -> dict[str, str]:
    """Return the keys and values of the Redis provider: one plain string per leaf."""
    return {f"{root}/http/{path}": text for tree in (COMMON, *trees) for path, text in _leaves(tree)}


def sentinel(root: str) -> str:
    """Return the key that is always there: Traefik keeps the routes it has when the last key under its root goes."""
    return f"{root}/http/middlewares/{RETRY}/retry/attempts"


def _server(target: Target) -> dict[str, Any]:
    return {"url": f"http://{join_endpoint(target.address, target.port)}", "weight": target.weight}


def _leaves(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        children: Iterable[tuple[str, Any]] = node.items()
    elif isinstance(node, list):
        children = ((_place(index, item), item) for index, item in enumerate(node))
    else:
        yield "", "true" if node is True else str(node)
        return
    for name, child in children:
        for path, text in _leaves(child):
            yield f"{name}/{path}" if path else name, text


def _place(index: int, item: Any) -> str:
    """Return what stands for the index of a list: for a server its address, so that others coming and going do not
    move it. Traefik takes keys that differ in case only for one, and canonical addresses never do."""
    if not isinstance(item, Mapping):
        return str(index)
    return str(item["url"]).removeprefix("http://").replace("[", "").replace("]", "")
