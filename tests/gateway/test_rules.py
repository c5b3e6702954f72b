import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.strategies import services
from waypost.errors import SettingsError
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

PAY = ServiceKey("default", "payments")


def test_the_defaults_tell_services_apart_by_host_and_by_path() -> None:
    assert Rules().host_of(PAY) == "payments.default.waypost"
    assert Rules().prefix_of(PAY) == "/default/payments"


@given(services, services)
def test_no_two_services_share_a_host_or_a_prefix(one: ServiceKey, other: ServiceKey) -> None:
    rules = Rules()

    assert (rules.host_of(one) == rules.host_of(other)) == (one == other)
    assert (rules.prefix_of(one) == rules.prefix_of(other)) == (one == other)
    assert one == other or not f"{rules.prefix_of(one)}/".startswith(f"{rules.prefix_of(other)}/")


@pytest.mark.parametrize(
    "templates",
    [
        {"host": "", "path": ""},
        {"host": "example.org"},
        {"host": "{service}"},
        {"host": "{service}.{zone}.{namespace}"},
        {"host": "{service}`) || Host(`{namespace}"},
        {"host": "{service}.{namespace}."},
        {"host": "{service}.{namespace}\n"},
        {"host": "{service.__class__}.{namespace}"},
        {"path": "/{service}/"},
        {"path": "/{namespace}/{service}"},
        {"path": "{namespace}/{service}/"},
        {"path": "/{namespace}/{service}/`) || PathPrefix(`/"},
        {"path": "//{namespace}/{service}/"},
        {"path": "/{service}/", "namespaces": frozenset({"a", "b"})},
        {"namespaces": frozenset({"A"})},
    ],
)
def test_a_template_that_could_mean_something_else_is_refused(templates: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Rules(**templates)  # type: ignore[arg-type]


def test_one_namespace_needs_no_name_in_the_templates() -> None:
    rules = Rules(host="{service}.example.org", path="/api/{service}/", namespaces=frozenset({"default"}))

    assert rules.host_of(PAY) == "payments.example.org"
    assert rules.prefix_of(PAY) == "/api/payments"
    assert rules.accepts(PAY)
    assert not rules.accepts(ServiceKey("shop", "cart"))


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_no_name_is_no_service(namespace: str, service: str) -> None:
    if Rules().accepts(ServiceKey(namespace, service)):
        assert not set(namespace + service) & set("`/{}()|&\"'\\ \n@_")
