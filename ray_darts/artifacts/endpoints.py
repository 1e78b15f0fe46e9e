"""Which addresses an object store may have: https, or http on loopback; never a metadata service.

Names are not resolved. Knows no store.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from ray_darts.errors import ConfigError
from ray_darts.hosts import Address, address_of, is_loopback

_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
)


def check_endpoint(url: str, allow_http: bool) -> None:
    """Raise ConfigError unless requests with credentials may go to `url`."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.username or parts.password:
        raise ConfigError("the endpoint's URL holds a user or a password: credentials come from each node's own chain")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"endpoint {url!r}: wanted https://host[:port]")
    address = address_of(host)
    if host in _METADATA_NAMES or (address is not None and _is_metadata(address)):
        raise ConfigError(f"endpoint {url!r} is a metadata service, not a store")
    if parts.scheme == "http" and not is_loopback(host) and not allow_http:
        raise ConfigError(f"endpoint {url!r} is plain http beyond loopback: use https, or --set store.allow_http=true")


def _is_metadata(address: Address) -> bool:
    return address.is_link_local or address.is_unspecified or address in _METADATA_ADDRESSES
