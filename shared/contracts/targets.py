"""Which network addresses a webhook may reach: public ones, in whatever notation they are written. Pure.

Numbers in other notations (`2130706433`, `0x7f.1`, `0177.1`) are judged by what the resolver makes of them; IPv4 addresses
inside IPv6 ones (mapped, compatible, NAT64, 6to4, Teredo) are judged as both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORBIDDEN_4 = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
"""
_FORBIDDEN_6 = """
::/128 ::1/128 64:ff9b:1::/48 100::/64 2001:2::/48 2001:db8::/32 2001:10::/28 2001:20::/28 3fff::/20 5f00::/16
fc00::/7 fe80::/10 fec0::/10 ff00::/8
"""
FORBIDDEN: tuple[Network, ...] = tuple(ip_network(text) for text in (_FORBIDDEN_4 + _FORBIDDEN_6).split())

_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")


def meanings(address: Address) -> Iterator[Address]:
    """The address and every IPv4 address that is written inside it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR form, or single addresses; raises `ValueError`."""
    return tuple(ip_network(text) for text in texts)


def is_allowed(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether a connection to the address is in order: it is public, or a network of the allow list holds it.

    The allow list is matched against the plain meaning only, so that an odd spelling of an allowed address is still
    refused.
    """
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and address.scope_id:
        return False
    return not any(
        one.version == network.version and one in network for one in meanings(address) for network in FORBIDDEN
    )
