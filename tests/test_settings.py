"""Settings: where they come from, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from waypost.errors import SettingsError
from waypost.model.names import ServiceKey
from waypost.settings import Settings, brake_rules, kafka_properties, register


def a_file(directory: Path, text: str) -> Path:
    file = directory / "waypost.yaml"
    file.write_text(text)
    return file


def refused(**sources: object) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**sources)  # type: ignore[arg-type]
    return str(caught.value)


def test_without_any_source_the_defaults_hold() -> None:
    assert Settings.load() == Settings()


def test_later_sources_win_file_environment_flags(tmp_path: Path) -> None:
    file = a_file(tmp_path, "lease: {shards: 1, tick_ms: 200}\nredis: {prefix: 'a:'}\n")
    env = {"WAYPOST_LEASE_SHARDS": "2", "WAYPOST_LEASE_TICK_MS": "300", "HOME": "/root"}

    settings = Settings.load(file, env, ["lease.shards=3"])

    assert (settings.lease.shards, settings.lease.tick_ms, settings.redis.prefix) == (3, 300, "a:")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert Settings.load(a_file(tmp_path, "")) == Settings()


def test_other_environment_variables_are_not_ours() -> None:
    assert Settings.load(env={"WAYPOST_CACHE": "/tmp", "LEASE_SHARDS": "3"}) == Settings()


def test_a_value_may_hold_an_equals_sign() -> None:
    assert Settings.load(overrides=["kafka.properties=a=b;c=d"]).kafka.properties == "a=b;c=d"


@pytest.mark.parametrize("name", ["lease.shard", "leases.shards", "lease", "shards", ""])
def test_an_unknown_name_is_refused_by_name(name: str) -> None:
    assert f"there is no setting {name!r}" in refused(overrides=[f"{name}=3"])


def test_an_unknown_name_in_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    file = a_file(tmp_path, "lease: {shard: 3}")

    assert refused(file=file) == f"{file}: there is no setting 'lease.shard'; `waypost settings` lists them all"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("lease.shards=0", "must be 1 to 4096 shards, not 0"),
        ("lease.shards=4097", "must be 1 to 4096 shards, not 4097"),
        ("lease.shards=many", "must be a whole number (shards), not 'many'"),
        ("lease.tick_ms=1.5", "must be a whole number (ms), not '1.5'"),
        ("redis.changes_maxlen=99", "must be at least 100 entries, not 99"),
        ("kafka.check_topics=maybe", "must be true or false, not 'maybe'"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_name_bounds_and_origin(override: str, complaint: str) -> None:
    name = override.partition("=")[0]

    assert refused(overrides=[override]) == f"--set {name}: {name} {complaint}"


def test_the_origin_of_a_bad_value_is_named(tmp_path: Path) -> None:
    assert refused(env={"WAYPOST_LEASE_SHARDS": "x"}).startswith("environment variable WAYPOST_LEASE_SHARDS: ")
    assert refused(file=a_file(tmp_path, "lease: {shards: x}")).startswith(f"{tmp_path}")


@pytest.mark.parametrize("text", ["- a", "lease: 3", "lease: [", "just text"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    assert "waypost.yaml" in refused(file=a_file(tmp_path, text))


def test_a_missing_file_and_a_flag_without_value_are_refused(tmp_path: Path) -> None:
    assert "cannot read the settings file" in refused(file=tmp_path / "none.yaml")
    assert refused(overrides=["lease.shards"]) == "--set takes group.field=value, not 'lease.shards'"


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("TRUE", True), ("1", True), ("no", False), ("0", False)])
def test_yes_and_no_are_read_in_any_spelling(text: str, value: bool) -> None:
    assert Settings.load(overrides=[f"kafka.check_topics={text}"]).kafka.check_topics is value


def test_every_setting_has_a_unit_and_a_reason_and_a_default_within_its_bounds() -> None:
    names = [name for name, _, _ in register()]
    assert len(names) == len(set(names)) > 20

    for name, default, about in register():
        assert about["unit"], name
        assert about["why"], name
        if type(default) is int:
            assert about["low"] is not None, name
            assert Settings.load(overrides=[f"{name}={default}", f"{name}={about['low']}"])


def test_kafka_properties_are_read_as_pairs() -> None:
    settings = Settings.load(overrides=["kafka.properties=sasl.jaas.config=a=b; security.protocol=SSL;"])

    assert kafka_properties(settings) == {"sasl.jaas.config": "a=b", "security.protocol": "SSL"}


def test_a_kafka_property_without_a_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="write k=v;k=v"):
        kafka_properties(Settings.load(overrides=["kafka.properties=ssl"]))


def test_a_window_is_whole_ticks() -> None:
    Settings.load(overrides=["window.size_ms=12000", "lease.tick_ms=400"])

    with pytest.raises(SettingsError, match=r"window\.size_ms=10000 must be a multiple of lease\.tick_ms=300"):
        Settings.load(overrides=["window.size_ms=10000", "lease.tick_ms=300"])


def test_hold_times_of_single_services_are_read() -> None:
    settings = Settings.load(overrides=["brake.hold_by_service=shop/cart=90000; default/payments=5000;"])

    rules = brake_rules(settings)

    assert rules.hold_of(ServiceKey("shop", "cart")) == 90_000
    assert rules.hold_of(ServiceKey("default", "payments")) == 5_000
    assert rules.hold_of(ServiceKey("default", "other")) == settings.brake.hold_ms


@pytest.mark.parametrize("text", ["cart=90000", "shop/cart", "shop/cart=soon", "shop/cart=1", "Shop/Cart=90000"])
def test_a_hold_time_that_cannot_be_read_is_refused(text: str) -> None:
    assert "brake.hold_by_service" in refused(overrides=[f"brake.hold_by_service={text}"])


def test_a_reuse_limit_at_the_suppress_limit_is_refused() -> None:
    assert "damping.reuse" in refused(overrides=["damping.reuse=2000", "damping.suppress=2000"])
