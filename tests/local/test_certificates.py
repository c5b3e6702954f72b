"""What a local control plane is trusted by: certificates that a strict client accepts, and files that are private."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import yaml

from waypost.local.certificates import Certificates
from waypost.local.kubeconfig import ApiAddress, write_kubeconfig
from waypost.local.ports import LOOPBACK


def made(directory: Path) -> Certificates:
    certificates = Certificates(directory=directory)
    certificates.prepare()
    return certificates


def test_a_strict_client_trusts_the_server(tmp_path: Path) -> None:
    certificates = made(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificates.serving, certificates.serving_key)
    client = ssl.create_default_context(cafile=str(certificates.authority))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    server = threading.Thread(target=lambda: serving.wrap_socket(theirs, server_side=True).close())
    server.start()
    with client.wrap_socket(ours, server_hostname=LOOPBACK) as connection:
        subject = connection.getpeercert()
    server.join()

    assert subject is not None
    assert ("IP Address", LOOPBACK) in subject["subjectAltName"]


def test_keys_are_private_and_new_each_time(tmp_path: Path) -> None:
    certificates = made(tmp_path)
    keys = [certificates.serving_key, certificates.account_key]
    before = [key.read_bytes() for key in keys]

    certificates.prepare()

    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]
    assert all(key.read_bytes() != old for key, old in zip(keys, before, strict=True))


def test_a_kubeconfig_is_private_also_where_an_open_one_was(tmp_path: Path) -> None:
    certificates, path = made(tmp_path), tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)

    address = ApiAddress(url="https://127.0.0.1:1", authority=certificates.authority)
    write_kubeconfig(path, address, user="someone", token="t", namespace="n")

    assert path.stat().st_mode & 0o777 == 0o600
    assert yaml.safe_load(path.read_text())["contexts"][0]["context"]["namespace"] == "n"
