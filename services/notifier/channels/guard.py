"""Which addresses a webhook may reach: public ones, checked after resolving and pinned for the connection.

Names are resolved once and the very address that was checked is connected to, so that a name cannot answer
differently the second time. What an address means is judged by `shared.contracts.targets`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address

import msgspec

from services.notifier.channels.http import Origin
from services.notifier.errors import ForbiddenTarget, NotWritten
from shared.contracts.targets import is_allowed, parse_networks

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def system_resolve(host: str, port: int) -> list[str]:
    """Every address the system knows for a name; raises `NotWritten`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotWritten("the name does not resolve") from error
    return [str(entry[4][0]) for entry in found]


class Guard:
    """Checks and pins targets; a checked name is remembered for `ttl_seconds`."""

    def __init__(
        self, allow: Iterable[str] = (), *, resolve: Resolve = system_resolve, ttl_seconds: float = 30.0
    ) -> None:
        self._allowed = parse_networks(allow)
        self._resolve = resolve
        self._ttl = ttl_seconds
        self._known: dict[Origin, tuple[Origin, float]] = {}

    async def pin(self, origin: Origin) -> Origin:
        """The origin with the address to connect to; raises `ForbiddenTarget` when any address of the name is forbidden."""
        now = asyncio.get_running_loop().time()
        known = self._known.get(origin)
        if known is not None and known[1] > now:
            return known[0]
        addresses = [ip_address(text) for text in await self._resolve(origin.host, origin.port)]
        if not addresses:
            raise NotWritten("the name does not resolve")
        for address in addresses:
            if not is_allowed(address, self._allowed):
                raise ForbiddenTarget("the target resolves to an address that may not be reached")
        pinned = msgspec.structs.replace(origin, pinned=str(addresses[0]))
        if len(self._known) >= 4096:
            self._known.clear()
        self._known[origin] = (pinned, now + self._ttl)
        return pinned
