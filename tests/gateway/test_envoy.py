import json

from hypothesis import given

from tests.gateway import strategies
from waypost.gateway import envoy
from waypost.gateway.pool import Pool, Target
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

PAY = ServiceKey("default", "payments")
Tables = dict[ServiceKey, Pool]


def test_a_service_as_envoy_reads_it() -> None:
    pool = (
        Target(address="10.1.2.3", port=8080, weight=3, zone="b"),
        Target(address="10.1.2.4", port=8080, weight=1, zone="a", draining=True),
        Target(address="::1", port=80, weight=2, zone="a"),
        Target(address="db.internal", port=80, weight=2, zone="a"),
    )

    said = envoy.said([envoy.load_assignment(PAY, pool)])
    response = json.loads(envoy.discovery_response(envoy.ENDPOINTS, said))

    def an_endpoint(address: str, port: int, status: str, weight: int) -> object:
        return {
            "endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}},
            "health_status": status,
            "load_balancing_weight": weight,
        }

    assert response == {
        "version_info": said.version,
        "nonce": said.version,
        "type_url": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": "default/payments",
                "endpoints": [
                    {
                        "locality": {"zone": "a"},
                        "lb_endpoints": [
                            an_endpoint("10.1.2.4", 8080, "DRAINING", 1),
                            an_endpoint("::1", 80, "HEALTHY", 2),
                        ],
                    },
                    {"locality": {"zone": "b"}, "lb_endpoints": [an_endpoint("10.1.2.3", 8080, "HEALTHY", 3)]},
                ],
            }
        ],
    }
    assert envoy.unresolved(pool) == 1


@given(strategies.services, strategies.routes, strategies.draining)
def test_the_same_table_gives_the_same_version_and_another_one_another(
    service: ServiceKey, routes: dict, draining: dict  # type: ignore[type-arg]
) -> None:  # fmt: skip
    def said(routes: dict, draining: dict) -> envoy.Said:  # type: ignore[type-arg]
        return envoy.said([envoy.load_assignment(service, envoy_pool(routes, draining))])

    assert said(routes, draining) == said(dict(reversed(routes.items())), draining)
    assert (said(routes, draining) == said({}, draining)) == (
        envoy.load_assignment(service, envoy_pool(routes, draining))
        == envoy.load_assignment(service, envoy_pool({}, draining))
    )


def envoy_pool(routes: dict, draining: dict) -> Pool:  # type: ignore[type-arg]
    from waypost.gateway.pool import make_pool

    return make_pool(routes, draining)


@given(strategies.tables)
def test_every_ip_is_said_once_with_a_weight_envoy_takes(tables: Tables) -> None:
    for service, pool in tables.items():
        said = json.loads(json.dumps(envoy.load_assignment(service, pool)))
        zones = [locality["locality"]["zone"] for locality in said["endpoints"]]
        assert len(zones) == len(set(zones))
        places = [
            tuple(e["endpoint"]["address"]["socket_address"].values())
            for locality in said["endpoints"]
            for e in locality["lb_endpoints"]
        ]
        assert len(places) == len(set(places)) == len(pool) - envoy.unresolved(pool)
        assert all(e["load_balancing_weight"] >= 1 for loc in said["endpoints"] for e in loc["lb_endpoints"])


@given(strategies.tables)
def test_routes_lead_to_clusters_and_no_domain_is_said_twice(tables: Tables) -> None:
    services = sorted(tables)
    said = envoy.routes(services, Rules())

    domains = [domain for host in said["virtual_hosts"] for domain in host["domains"]]
    assert len(domains) == len(set(domains))
    clusters = {envoy.cluster(service)["name"] for service in services}
    used = {route["route"]["cluster"] for host in said["virtual_hosts"] for route in host["routes"]}
    assert used == clusters == {str(service) for service in services}
