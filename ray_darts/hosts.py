"""Which hosts mean this machine alone, in any notation that a socket would take. Asks no server of names."""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOOPBACK_NAMES = ("localhost", "localhost.localdomain")


def address_of(host: str) -> Address | None:
    """The address that a socket would take `host` for; None for a name."""
    if any(letter.isspace() for letter in host):
        return None
    try:  # a zone belongs to an address of IPv6 alone
        address: Address = ipaddress.ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166, 0xa9fea9fe, 169.254.43518
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is this machine alone."""
    address = address_of(host)
    return host.lower() in _LOOPBACK_NAMES if address is None else address.is_loopback
