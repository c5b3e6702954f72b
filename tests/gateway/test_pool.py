from hypothesis import given

from tests.gateway import strategies
from waypost.gateway.pool import make_pool
from waypost.model.lifecycle import Declared, Health, Lease, Status
from waypost.wire.endpoint import Endpoint, KnownInstance


def an_endpoint(port: int = 80, **fields: object) -> Endpoint:
    return Endpoint(**{"address": "10.0.0.1", "port": port, **fields})  # type: ignore[arg-type]


def a_drain(port: int = 80, **fields: object) -> KnownInstance:
    return KnownInstance(
        **{  # type: ignore[arg-type]
            "address": "10.0.0.1",
            "port": port,
            "source": "s",
            "declared": Declared.DRAINING,
            "health": Health.UNKNOWN,
            "lease": Lease.LIVE,
            "status": Status.DRAINING,
            "routable": False,
            "reason": "draining",
            "since": 0,
            "generation": 0,
            **fields,
        }
    )


@given(strategies.routes, strategies.draining)
def test_each_address_is_there_once_in_order_and_can_be_called(routes: dict, draining: dict) -> None:  # type: ignore[type-arg]
    pool = make_pool(routes, draining)

    places = [(t.address, t.port) for t in pool]
    assert places == sorted(set(places))
    assert set(places) == {(e.address, e.port) for e in (*routes.values(), *draining.values())}
    assert all(t.weight >= 1 for t in pool)


@given(strategies.routes, strategies.draining)
def test_a_table_with_endpoints_always_leaves_somebody_to_call(routes: dict, draining: dict) -> None:  # type: ignore[type-arg]
    pool = make_pool(routes, draining)

    assert any(not t.draining for t in pool) == bool(routes)


@given(strategies.routes, strategies.draining)
def test_the_order_of_a_hash_means_nothing(routes: dict, draining: dict) -> None:  # type: ignore[type-arg]
    assert make_pool(dict(reversed(routes.items())), dict(reversed(draining.items()))) == make_pool(routes, draining)


def test_weight_zero_drains_while_others_have_weight() -> None:
    pool = make_pool({"a": an_endpoint(1, weight=0), "b": an_endpoint(2, weight=7)}, {})

    assert [(t.port, t.weight, t.draining) for t in pool] == [(1, 1, True), (2, 7, False)]


def test_zeros_among_themselves_are_equals() -> None:
    pool = make_pool({"a": an_endpoint(1, weight=0), "b": an_endpoint(2, weight=0)}, {})

    assert [(t.port, t.weight, t.draining) for t in pool] == [(1, 1, False), (2, 1, False)]


def test_a_successor_on_the_port_of_one_that_drains_is_called() -> None:
    [target] = make_pool({"new": an_endpoint(1)}, {"old": a_drain(1)})

    assert not target.draining


def test_an_endpoint_with_weight_counts_before_one_without_at_the_same_address() -> None:
    [target] = make_pool({"a": an_endpoint(1, weight=0), "b": an_endpoint(1, weight=5)}, {})

    assert (target.weight, target.draining) == (5, False)
