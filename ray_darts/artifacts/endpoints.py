"""Which addresses an object store may have: https, or http on loopback; never a metadata service.

Names are not resolved; an address is recognised in any notation that a socket would take. Knows no store.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from ray_darts.errors import ConfigError

_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_endpoint(url: str, allow_http: bool) -> None:
    """Raise ConfigError unless requests with credentials may go to `url`."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.username or parts.password:
        raise ConfigError("the endpoint's URL holds a user or a password: credentials come from each node's own chain")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"endpoint {url!r}: wanted https://host[:port]")
    address = _address(host)
    if host in _METADATA_NAMES or (address is not None and _is_metadata(address)):
        raise ConfigError(f"endpoint {url!r} is a metadata service, not a store")
    loopback = host == "localhost" or (address is not None and address.is_loopback)
    if parts.scheme == "http" and not loopback and not allow_http:
        raise ConfigError(f"endpoint {url!r} is plain http beyond loopback: use https, or --set store.allow_http=true")


def _is_metadata(address: _Address) -> bool:
    return address.is_link_local or address.is_unspecified or address in _METADATA_ADDRESSES


def _address(host: str) -> _Address | None:
    """The address that a socket would take `host` for; None for a name."""
    try:
        address: _Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166, 0xa9fea9fe, 169.254.43518
        except OSError:
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
