import json
import re

import orjson
from hypothesis import given

from tests.gateway import strategies
from waypost.gateway import traefik
from waypost.gateway.pool import Pool, Target
from waypost.gateway.projection import difference
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

PAY = ServiceKey("default", "payments")
RULES = Rules()
ROOT = "waypost/traefik"
Tables = dict[ServiceKey, Pool]


def trees(tables: Tables) -> list[traefik.Tree]:
    return [traefik.definitions(service, pool, RULES) for service, pool in sorted(tables.items())]


def keys(tables: Tables) -> dict[str, str]:
    return traefik.keys(ROOT, trees(tables))


def test_a_service_as_traefik_reads_it() -> None:
    pool = (
        Target(address="10.1.2.3", port=8080, weight=3, zone="a"),
        Target(address="::1", port=8080, weight=1, zone="a"),
        Target(address="10.1.2.4", port=8080, weight=1, zone="a", draining=True),
    )

    http = json.loads(traefik.document(trees({PAY: pool})))["http"]

    assert http == {
        "middlewares": {
            "waypost-retry": {"retry": {"attempts": 8}},
            "payments.default_strip": {"stripPrefix": {"prefixes": ["/default/payments"]}},
        },
        "serversTransports": {"waypost": {"forwardingTimeouts": {"dialTimeout": "1s"}}},
        "routers": {
            "payments.default_host": {
                "rule": "Host(`payments.default.waypost`)",
                "priority": 2,
                "middlewares": ["waypost-retry"],
                "service": "payments.default",
            },
            "payments.default_path": {
                "rule": "Path(`/default/payments`) || PathPrefix(`/default/payments/`)",
                "priority": 1,
                "middlewares": ["payments.default_strip", "waypost-retry"],
                "service": "payments.default",
            },
        },
        "services": {
            "payments.default": {
                "loadBalancer": {
                    "passHostHeader": True,
                    "serversTransport": "waypost",
                    "servers": [
                        {"url": "http://10.1.2.3:8080", "weight": 3},
                        {"url": "http://[::1]:8080", "weight": 1},
                    ],
                }
            }
        },
    }
    stored = keys({PAY: pool})
    assert stored[f"{ROOT}/http/services/payments.default/loadBalancer/servers/::1:8080/url"] == "http://[::1]:8080"
    assert stored[f"{ROOT}/http/routers/payments.default_path/middlewares/1"] == "waypost-retry"


def test_an_empty_pool_keeps_its_service() -> None:
    stored = keys({PAY: ()})

    assert stored[f"{ROOT}/http/services/payments.default/loadBalancer/passHostHeader"] == "true"
    assert not [key for key in stored if "/servers/" in key]


def test_with_no_service_at_all_something_is_left() -> None:
    assert keys({})[traefik.sentinel(ROOT)] == "8"
    assert set(json.loads(traefik.document([]))["http"]) == {"middlewares", "serversTransports"}


@given(strategies.tables)
def test_the_same_tables_give_the_same_bytes(tables: Tables) -> None:
    again = dict(reversed(tables.items()))

    assert traefik.document(trees(again)) == traefik.document(trees(tables))
    assert keys(again) == keys(tables)


@given(strategies.tables)
def test_no_map_and_no_list_is_ever_empty(tables: Tables) -> None:
    def check(node: object) -> None:
        if isinstance(node, dict | list):
            assert node
            for child in node.values() if isinstance(node, dict) else node:
                check(child)

    check(json.loads(traefik.document(trees(tables))))


@given(strategies.tables)
def test_nothing_a_producer_chooses_comes_into_a_key_or_a_value(tables: Tables) -> None:
    key = re.compile(rf"{ROOT}/http/[A-Za-z]+/[a-z0-9._-]+(/[A-Za-z0-9]+)+(/[a-z0-9.:-]+(/(url|weight))?)?\Z")
    value = re.compile(r"[a-zA-Z0-9._:/\[\]`()| -]+\Z")

    for name, text in keys(tables).items():
        assert key.match(name), name
        assert value.match(text), text


@given(strategies.tables)
def test_no_two_keys_differ_in_case_only(tables: Tables) -> None:
    stored = keys(tables)

    assert len({key.lower() for key in stored}) == len(stored)


@given(strategies.tables)
def test_document_and_keys_say_the_same(tables: Tables) -> None:
    rebuilt: dict[str, object] = {}
    for key, text in keys(tables).items():
        node: dict[str, object] = rebuilt
        *path, last = key.removeprefix(f"{ROOT}/").split("/")
        for name in path:
            node = node.setdefault(name, {})  # type: ignore[assignment]
        node[last] = text

    def plain(node: object, name: str = "") -> object:
        if isinstance(node, list):
            return {
                str(i) if name != "servers" else re.sub(r"http://|[\[\]]", "", child["url"]): plain(child)
                for i, child in enumerate(node)
            }
        if isinstance(node, dict):
            return {name: plain(child, name) for name, child in node.items()}
        return {True: "true"}.get(node, str(node)) if isinstance(node, bool) else str(node)

    assert rebuilt == plain(orjson.loads(traefik.document(trees(tables))))


@given(strategies.tables, strategies.tables)
def test_differences_applied_give_the_whole_projection(before: Tables, after: Tables) -> None:
    old, new = keys(before), keys(after)

    change = difference(old, new)

    assert {**{k: v for k, v in old.items() if k not in change.delete}, **change.set} == new
    assert all(old.get(key) != value for key, value in change.set.items())
    assert not set(change.set) & set(change.delete)
    assert traefik.sentinel(ROOT) not in change.delete
    assert not difference(new, new)
