"""Webhook targets: every way of writing an address that may not be reached is refused, and what was checked is what is
connected to.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels.guard import Guard, system_resolve
from services.notifier.channels.http import split_url
from services.notifier.errors import ForbiddenTarget, NotWritten
from shared.contracts.targets import FORBIDDEN, is_allowed

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.0.9",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "fec0::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:7f00:1::",
    "64:ff9b:1::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    assert not is_allowed(ip_address(text), ())


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_let_through(text: str) -> None:
    assert is_allowed(ip_address(text), ())


@given(st.integers(0, 2**32 - 1))
def test_an_address_inside_another_is_judged_as_itself(number: int) -> None:
    inner = IPv4Address(number)
    for outer in (f"::ffff:{inner}", f"64:ff9b::{inner}"):
        assert is_allowed(IPv6Address(outer), ()) == is_allowed(inner, ())


@given(st.sampled_from(FORBIDDEN), st.integers(0, 2**128))
def test_no_address_of_a_forbidden_network_is_let_through(network: object, offset: int) -> None:
    from ipaddress import IPv4Network, IPv6Network

    assert isinstance(network, IPv4Network | IPv6Network)
    assert not is_allowed(network[offset % network.num_addresses], ())


WAYS_TO_WRITE_LOOPBACK = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://localhost/",
    "http://0/",
]


@pytest.mark.parametrize("url", WAYS_TO_WRITE_LOOPBACK)
def test_loopback_is_refused_in_every_notation(url: str) -> None:
    async def run() -> None:
        origin, _ = split_url(url)
        with pytest.raises((ForbiddenTarget, NotWritten)):
            await Guard().pin(origin)

    asyncio.run(run())


def test_a_name_with_one_forbidden_address_is_refused_whole() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    async def run() -> None:
        with pytest.raises(ForbiddenTarget):
            await Guard(resolve=resolve).pin(split_url("https://both.example/")[0])

    asyncio.run(run())


def test_the_checked_address_is_pinned_and_the_name_is_not_asked_again_at_once() -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    async def run() -> None:
        guard = Guard(resolve=resolve)
        origin, _ = split_url("https://rebind.example/")
        for _ in range(3):
            pinned = await guard.pin(origin)
            assert (pinned.pinned, pinned.host, pinned.authority) == ("8.8.8.8", "rebind.example", "rebind.example")

    asyncio.run(run())


def test_the_allow_list_opens_only_what_it_names() -> None:
    async def run() -> None:
        guard = Guard(("127.0.0.0/8",))
        assert (await guard.pin(split_url("http://127.0.0.1:9/")[0])).pinned == "127.0.0.1"
        for url in ("http://10.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"):
            with pytest.raises(ForbiddenTarget):
                await guard.pin(split_url(url)[0])

    asyncio.run(run())


def test_a_name_that_does_not_resolve_is_worth_another_try() -> None:
    async def run() -> None:
        with pytest.raises(NotWritten):
            await system_resolve("no-such-host.invalid", 443)

    asyncio.run(run())
