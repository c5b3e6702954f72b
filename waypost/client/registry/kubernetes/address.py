"""Which cluster and namespace is meant, and which port of its Services, from one URL.

    kubernetes:[NAMESPACE]                  the cluster this pod is in, or the current context of the kubeconfig
    kubernetes://CONTEXT/[NAMESPACE]        another context of the kubeconfig; it may have slashes, a namespace has none

    ?port=NAME      the port of this name, where a Service has several
    ?port=NUMBER    where they listen, for headless Services that name no port
    ?kubeconfig=FILE

Without a namespace it is that of the context or of the pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from waypost.client.registry.kubernetes.slices import ANY_PORT, PortChoice
from waypost.errors import SettingsError
from waypost.model.names import is_namespace

_OPTIONS = {"port", "kubeconfig"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesAddress:
    """See the module. None: what the kubeconfig or the pod says."""

    context: str | None = None
    namespace: str | None = None
    kubeconfig: Path | None = None
    port: PortChoice = ANY_PORT


def read_kubernetes(url: str) -> KubernetesAddress:
    """Read a URL. Raises SettingsError."""
    scheme, colon, rest = url.partition(":")
    if scheme != "kubernetes" or not colon:
        raise SettingsError(f"{url!r}: say which namespace, as in kubernetes:default")
    place, _, query = rest.partition("?")
    try:
        options = dict(parse_qsl(query, strict_parsing=bool(query)))
    except ValueError as error:
        raise SettingsError(f"{url!r}: {error}") from error
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise SettingsError(f"{url!r}: {', '.join(unknown)} is unknown; options are {', '.join(sorted(_OPTIONS))}")
    context, namespace = "", place
    if place.startswith("//"):
        context, slash, namespace = place.removeprefix("//").rpartition("/")
        if not slash:
            context, namespace = namespace, ""
        if not context:
            raise SettingsError(f"{url!r}: say which context, as in kubernetes://minikube/default")
    if namespace and not is_namespace(namespace):
        raise SettingsError(f"{url!r}: {namespace!r} is no namespace, an RFC 1123 label")
    return KubernetesAddress(
        context=unquote(context) or None,
        namespace=namespace or None,
        kubeconfig=Path(options["kubeconfig"]) if "kubeconfig" in options else None,
        port=_port(url, options.get("port", "")),
    )


def _port(url: str, said: str) -> PortChoice:
    if not said.isdecimal():
        return PortChoice(name=said)
    if not 1 <= int(said) <= 65_535:
        raise SettingsError(f"{url!r}: a port is a name, or a number from 1 to 65535")
    return PortChoice(number=int(said))
