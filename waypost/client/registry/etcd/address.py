"""Where an etcd is and how instances are written there, from one URL.

etcd://HOST:PORT[,HOST:PORT…][?layout=waypost|kitex][&prefix=PATH]
etcds://…[?ca=FILE][&cert=FILE&key=FILE]                            the same over TLS
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from waypost.client.registry.etcd.gateway import EtcdGateway, Tls
from waypost.client.registry.etcd.layouts import KitexLayout, Layout, WaypostLayout
from waypost.client.registry.urls import read_url
from waypost.errors import SettingsError

PORT = 2379
_OPTIONS = {"layout", "prefix"}
_TLS_OPTIONS = _OPTIONS | {"ca", "cert", "key"}
_LAYOUTS: Mapping[str, type[WaypostLayout] | type[KitexLayout]] = {"waypost": WaypostLayout, "kitex": KitexLayout}


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdAddress:
    """See the module."""

    urls: tuple[str, ...]
    tls: Tls | None
    layout: Layout

    def gateway(self) -> EtcdGateway:
        """Return a connection, which is made when it is used. Raises SettingsError for files that cannot be read."""
        return EtcdGateway(*self.urls, tls=self.tls)


def read_etcd(url: str) -> EtcdAddress:
    """Read a URL. Raises SettingsError."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("etcd", "etcds"):
        raise SettingsError(f"{url!r}: say where etcd is, as in etcd://127.0.0.1:{PORT}")
    is_tls = scheme == "etcds"
    authority, mark, query = rest.partition("?")
    urls, options = [], dict[str, str]()
    for each in authority.rstrip("/").split(","):
        host, port, options = read_url(f"{scheme}://{each}{mark}{query}", _TLS_OPTIONS if is_tls else _OPTIONS)
        if host is None:
            raise SettingsError(f"{url!r}: say where etcd is, as in etcd://127.0.0.1:{PORT}")
        urls.append(f"{'https' if is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port or PORT}")
    if ("cert" in options) != ("key" in options):
        raise SettingsError(f"{url!r}: cert and key belong together")
    layout = _LAYOUTS.get(options.get("layout", "waypost"))
    if layout is None:
        raise SettingsError(f"{url!r}: a layout is one of {', '.join(_LAYOUTS)}")
    files = {name: Path(options[name]) for name in ("ca", "cert", "key") if name in options}
    return EtcdAddress(
        urls=tuple(urls),
        tls=Tls(**files) if is_tls else None,
        layout=layout(options["prefix"]) if "prefix" in options else layout(),
    )
