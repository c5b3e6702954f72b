"""The certificates and the signing key of one local control plane: made anew for every start, of use to nobody else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from waypost.local.ports import LOOPBACK

VALIDITY = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)
"""Before now, for a clock that is set back a little while the servers run."""


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """An authority, one serving certificate for loopback, and the key that signs service accounts' tokens."""

    directory: Path

    @property
    def authority(self) -> Path:
        return self.directory / "authority.pem"

    @property
    def serving(self) -> Path:
        return self.directory / "serving.pem"

    @property
    def serving_key(self) -> Path:
        return self.directory / "serving.key"

    @property
    def account_key(self) -> Path:
        return self.directory / "service-accounts.key"

    def prepare(self) -> None:
        """Write all four files; the keys are readable by this user only. The authority's own key is not kept."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority_key, serving_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = _authority(authority_key)
        serving = _serving(serving_key.public_key(), authority, authority_key)
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        self.serving.write_bytes(serving.public_bytes(serialization.Encoding.PEM))
        write_private(self.serving_key, _pem(serving_key))
        write_private(self.account_key, _pem(ec.generate_private_key(ec.SECP256R1())))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that was never readable by anybody else, not even for a moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("waypost local authority")
    public = key.public_key()
    return (
        _builder(subject=name, issuer=name, public=public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _serving(
    public: ec.EllipticCurvePublicKey, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address(LOOPBACK))]
    of_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(subject=_name("waypost local server"), issuer=authority.subject, public=public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(of_authority, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(*, subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Not PKCS #8: the API server finds no public key in that.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
