"""The Flink configuration every cluster needs that runs our jobs, whoever runs the cluster."""

from __future__ import annotations

import pkgutil

import yaml

from waypost.errors import SettingsError


def settings_text() -> str:
    """Return the entries with their reasons, as YAML."""
    data = pkgutil.get_data("waypost.flink", "settings.yaml")
    assert data is not None, "settings.yaml is packed beside this module"
    return data.decode()


def job_settings() -> dict[str, str]:
    """Return the entries as Flink's flat `key: value` configuration."""
    return parse_settings(settings_text(), "settings.yaml")


def parse_settings(text: str, origin: str) -> dict[str, str]:
    """Return flat `key: value` lines as a mapping, values as Flink spells them.

    Raises `SettingsError` naming `origin` for anything else: nested entries are valid YAML for Flink too, but would
    not replace the flat ones here.
    """
    try:
        # BaseLoader makes strings and nothing else.
        entries = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{origin} is no YAML: {error}") from error
    if entries in (None, ""):
        return {}
    if not isinstance(entries, dict) or not all(v and isinstance(v, str) for v in entries.values()):
        raise SettingsError(f"{origin} must be lines of the form `key: value`, e.g. `heartbeat.timeout: 10 s`")
    return {str(key): value for key, value in entries.items()}
