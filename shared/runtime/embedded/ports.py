"""Ports for servers on the loopback: steady for a home, and out of the way of outgoing connections."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
_LOWEST = 15_000
_TRIES = 200


def _lowest_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; connections of a former server that are winding down do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def block(count: int) -> int:
    """The first of `count` free ports in a row, somewhere at random: others look for theirs at the same time."""
    while True:
        base = next(candidates(os.urandom(8).hex(), None))
        if all(map(is_free, range(base, base + count))):
            return base


def candidates(seed: str, remembered: int | None) -> Iterator[int]:
    """Free ports to try: the remembered one, then some that follow from `seed`, so that homes spread without asking each other.

    They lie below the range of outgoing connections: there, a client that keeps trying a server which is down is now and then given
    the very port it calls, and talks to itself while the server cannot come back.
    """
    if remembered is not None and is_free(remembered):
        yield remembered
    highest = max(_lowest_ephemeral(), _LOWEST + 1_000)
    for step in range(_TRIES):
        port = _LOWEST + zlib.crc32(f"{seed}#{step}".encode()) % (highest - _LOWEST)
        if port != remembered and is_free(port):
            yield port
