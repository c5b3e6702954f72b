"""How a client of kafka-python reaches the brokers that Flink's clients reach by `kafka.properties`.

Those are the words of the Java client. What is translated is what both can do: TLS with PEM files, SASL with a name and
a password. Everything else that is about security is an error and not left out: a client that silently speaks without
TLS would send passwords in the clear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from waypost.errors import SettingsError

_JAAS = re.compile(r'(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"')
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_PLAIN_WORDS = {
    "security.protocol": "security_protocol",
    "ssl.truststore.location": "ssl_cafile",
    "ssl.keystore.location": "ssl_certfile",
    "ssl.key.password": "ssl_password",
}
_SAID_OTHERWISE = ("ssl.truststore.type", "ssl.keystore.type", "ssl.endpoint.identification.algorithm")


def client_settings(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a kafka-python client; what is not about security is left to Flink.

    Raises SettingsError for what kafka-python cannot do, naming the property and never its value.
    """
    found: dict[str, Any] = {}
    for name, value in properties.items():
        if name in _PLAIN_WORDS:
            found[_PLAIN_WORDS[name]] = value
        elif name == "sasl.mechanism":
            if value not in _MECHANISMS:
                raise _cannot(name, f"one of {', '.join(_MECHANISMS)}")
            found["sasl_mechanism"] = value
        elif name == "sasl.jaas.config":
            found |= _credentials(value)
        elif name.startswith(("ssl.", "sasl.")) and name not in _SAID_OTHERWISE:
            raise _cannot(name, "a truststore and keystore in PEM files, or a name and password")
    for store in ("truststore", "keystore"):
        if f"ssl.{store}.location" in properties and properties.get(f"ssl.{store}.type", "JKS").upper() != "PEM":
            raise _cannot(f"ssl.{store}.type", "PEM")
    if "ssl.endpoint.identification.algorithm" in properties:
        found["ssl_check_hostname"] = bool(properties["ssl.endpoint.identification.algorithm"])
    return found


def _credentials(jaas: str) -> dict[str, str]:
    said = {name: re.sub(r"\\(.)", r"\1", value) for name, value in _JAAS.findall(jaas)}
    if said.keys() != {"username", "password"}:
        raise _cannot("sasl.jaas.config", 'a login module with username="…" and password="…"')
    return {"sasl_plain_username": said["username"], "sasl_plain_password": said["password"]}


def _cannot(name: str, wanted: str) -> SettingsError:
    return SettingsError(f"kafka.properties: {name} is for Java's client only; whatever reads in Python needs {wanted}")
