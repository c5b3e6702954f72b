"""`waypost bridge`: Alertmanager's webhook in, alerts out."""

from __future__ import annotations

from pathlib import Path

import click

from waypost.cli.options import kafka_address, kafka_option, metrics_options, process_metrics, state_dir_option
from waypost.errors import SettingsError
from waypost.metrics import Origin
from waypost.topics import ALERTS, DEAD_LETTER, default_topics

_DEFAULT_LISTEN = "127.0.0.1:8791"
_FILE = click.Path(dir_okay=False, path_type=Path)
_TOPICS = default_topics()


@click.command("bridge")
@kafka_option
@state_dir_option
@click.option(
    "--listen", default=_DEFAULT_LISTEN, show_default=True, metavar="HOST:PORT", help="Where Alertmanager sends to."
)
@click.option("--token-file", type=_FILE, help="File with the bearer token that a sender must know.")
@click.option("--tls-cert", type=_FILE, help="Certificate chain to serve TLS with, PEM.")
@click.option("--tls-key", type=_FILE, help="Its key, PEM.")
@click.option("--client-ca", type=_FILE, help="Let in only senders with a certificate of these authorities, PEM.")
@click.option("--insecure", is_flag=True, help="Let anybody send who reaches the port.")
@click.option("--mapping", type=_FILE, help="YAML: which labels make which type, and which name what.")
@click.option("--topic", default=_TOPICS[ALERTS].name, show_default=True, help="The topic for alerts.")
@click.option("--dead-letter", default=_TOPICS[DEAD_LETTER].name, show_default=True, help="The topic for refused ones.")
@metrics_options
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def bridge(
    kafka: str | None,
    state_dir: Path,
    listen: str,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    insecure: bool,
    mapping: Path | None,
    topic: str,
    dead_letter: str,
    metrics_host: str,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Take Alertmanager's notifications at POST /alertmanager and write one record per alert.

    A notification is answered 200 when Kafka has all of it; while Kafka is away it is answered 503, and Alertmanager
    sends it again. Needs --token-file, or TLS with --client-ca; without either it does not start, unless --insecure is
    spelled out. Logs are JSON lines on standard output.
    """
    try:
        from waypost import logs
        from waypost.bridge.access import Tls, TokenFile
        from waypost.bridge.application import Topics
        from waypost.bridge.mapping import DEFAULT_MAPPING, decode_mapping
        from waypost.bridge.serve import Settings, run
        from waypost.serving import read_listen
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[gateway]'") from error

    if (tls_cert is None) != (tls_key is None) or (client_ca is not None and tls_cert is None):
        raise SettingsError("--tls-cert and --tls-key belong together, and --client-ca needs both")
    host, port = read_listen(listen)
    settings = Settings(
        bootstrap=kafka_address(kafka, state_dir),
        host=host,
        port=port,
        topics=Topics(alerts=topic, dead_letter=dead_letter),
        mapping=DEFAULT_MAPPING if mapping is None else decode_mapping(_read(mapping)),
        token=TokenFile(token_file) if token_file is not None else None,
        tls=Tls(certificate=tls_cert, key=tls_key, client_ca=client_ca) if tls_cert and tls_key else None,
        insecure=insecure,
    )
    logs.configure(log_level, {"service": "waypost-bridge"})
    run(settings, process_metrics(Origin.BRIDGE, metrics_host, metrics_port))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error


commands: list[click.Command] = [bridge]
