"""What Envoy is told over REST: clusters, their endpoints, and the routes to them (CDS, EDS, RDS of xDS version 3).

A cluster is named as its service, `namespace/service`. Who keeps clusters and routes of their own needs the endpoints
only. Versions are digests of what is said, so two feeds with the same tables say the same, and so does one that was
restarted.

One endpoint that Envoy cannot take makes it refuse the whole cluster. By EDS it takes IP addresses only, so endpoints
with DNS names are left out here, and counted by `unresolved`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Any, NamedTuple

import orjson

from waypost.gateway.pool import Pool, Target
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey
from waypost.wire.addresses import is_ip

ENDPOINTS, CLUSTERS, ROUTES = "endpoints", "clusters", "routes"
TYPE_URLS = {
    ENDPOINTS: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    CLUSTERS: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    ROUTES: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
FEED_CLUSTER = "waypost-feed"
"""The cluster of the bootstrap by which Envoy reaches the feed."""
ROUTE_CONFIGURATION = "waypost"

REFRESH_DELAY = "0.1s"
"""Pause between an answer and the next question. A question is held until there is something new, see `application`,
so this is not how often Envoy asks but how long a change that follows another one waits."""
REQUEST_TIMEOUT = "30s"
"""Envoy tells it to the feed, which answers "nothing new" after half of it. Longer spares questions, 77 kB each;
shorter notices sooner that the way to the feed swallows everything."""

RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}
"""Only what no instance has begun to serve, hence safe for every method; each time another host."""

SOURCE = {
    "resource_api_version": "V3",
    "api_config_source": {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": [FEED_CLUSTER],
        "refresh_delay": REFRESH_DELAY,
        "request_timeout": REQUEST_TIMEOUT,
    },
}
"""How Envoy is told to ask the feed, for clusters, endpoints and routes alike."""

_OUTLIERS = {
    # Only hosts that cannot be reached, for a few seconds: judging answers is the health checkers' affair.
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 2,
    "interval": "0.5s",
    "base_ejection_time": "5s",
    "max_ejection_percent": 50,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
}


class Said(NamedTuple):
    """Resources and the version that belongs to exactly these."""

    version: str
    resources: tuple[bytes, ...]


def said(resources: Iterable[Any]) -> Said:
    """Return what is said by these resources."""
    texts = tuple(item if isinstance(item, bytes) else orjson.dumps(item) for item in resources)
    return Said(blake2b(b"\0".join(texts), digest_size=8).hexdigest(), texts)


def discovery_response(kind: str, what: Said) -> bytes:
    """Return a DiscoveryResponse."""
    return orjson.dumps(
        {
            "version_info": what.version,
            "type_url": TYPE_URLS[kind],
            "nonce": what.version,
            "resources": [orjson.Fragment(text) for text in what.resources],
        }
    )


def load_assignment(service: ServiceKey, pool: Pool) -> dict[str, Any]:
    """Return the endpoints of a service, by zone."""
    zoned = sorted((target for target in pool if is_ip(target.address)), key=lambda target: target.zone)
    return {
        "@type": TYPE_URLS[ENDPOINTS],
        "cluster_name": str(service),
        "endpoints": [
            {"locality": {"zone": zone}, "lb_endpoints": [_endpoint(target) for target in targets]}
            for zone, targets in groupby(zoned, key=lambda target: target.zone)
        ],
    }


def unresolved(pool: Pool) -> int:
    """Return how many targets `load_assignment` leaves out."""
    return sum(not is_ip(target.address) for target in pool)


def cluster(service: ServiceKey) -> dict[str, Any]:
    """Return the definition of a service's cluster."""
    return {
        "@type": TYPE_URLS[CLUSTERS],
        "name": str(service),
        "type": "EDS",
        "eds_cluster_config": {"service_name": str(service), "eds_config": SOURCE},
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        # With Envoy's 50 % more than half of a service draining would bring requests back to those that drain.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "outlier_detection": _OUTLIERS,
    }


def routes(services: Sequence[ServiceKey], rules: Rules) -> dict[str, Any]:
    """Return the routes to all services: a virtual host each, and one for the paths of all."""
    hosts = []
    paths = []
    for service in services:
        target = {"cluster": str(service), "timeout": "0s", "retry_policy": RETRY}
        if (host := rules.host_of(service)) is not None:
            hosts.append(
                {
                    "name": f"{service.service}.{service.namespace}",
                    "domains": [host],
                    "routes": [{"match": {"prefix": "/"}, "route": target}],
                }
            )
        if (prefix := rules.prefix_of(service)) is not None:
            stripped = {**target, "prefix_rewrite": "/"}
            paths.append({"match": {"path": prefix}, "route": stripped})
            paths.append({"match": {"prefix": f"{prefix}/"}, "route": stripped})
    if paths:
        hosts.append({"name": "by_path", "domains": ["*"], "routes": paths})
    return {
        "@type": TYPE_URLS[ROUTES],
        "name": ROUTE_CONFIGURATION,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": hosts,
    }


def _endpoint(target: Target) -> dict[str, Any]:
    address = {"socket_address": {"address": target.address, "port_value": target.port}}
    return {
        "endpoint": {"address": address},
        "health_status": "DRAINING" if target.draining else "HEALTHY",
        "load_balancing_weight": target.weight,
    }
