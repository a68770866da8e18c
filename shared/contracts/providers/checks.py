"""What the readers of receipts share: constant-time comparison, tokens in the query, JSON of the expected shape,
provider times.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from shared.contracts.providers.receipts import Forged, Inbound, Malformed

CHINA = timezone(timedelta(hours=8))
MAX_BODY = 1 << 20
MAX_ENTRIES = 10_000


def same(given: str, expected: str) -> bool:
    """Constant-time comparison; an empty expectation never matches."""
    return bool(expected) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def secret(secrets: Mapping[str, str], name: str) -> str:
    """A configured secret; without one nobody is believed."""
    value = secrets.get(name, "")
    if not value:
        raise Forged(f"no secret {name!r} is configured")
    return value


def require_token(inbound: Inbound, secrets: Mapping[str, str]) -> None:
    """For providers that do not sign: the unguessable `token` of the URL, and the peer's network when `networks` is
    configured.
    """
    if not same(inbound.query().get("token", ""), secret(secrets, "token")):
        raise Forged("the token does not match")
    networks = secrets.get("networks", "").split()
    if networks and not _within(inbound.remote, networks):
        raise Forged("the peer is not one of the provider's")


def _within(remote: str, networks: list[str]) -> bool:
    try:
        peer = ip_address(remote)
    except ValueError:
        return False
    return any(peer in ip_network(network) for network in networks)


def require_fresh(seconds: str, now: datetime, tolerance: timedelta = timedelta(minutes=5)) -> None:
    """A signed time stamp (seconds, or milliseconds when it has 13 digits) must be near `now`."""
    if not re.fullmatch(r"\d{9,13}", seconds):
        raise Forged("the timestamp is missing")
    stamp = int(seconds) / (1000 if len(seconds) == 13 else 1)
    if abs(now.timestamp() - stamp) > tolerance.total_seconds():
        raise Forged("the timestamp is too far from now")


def json_of(body: bytes) -> Any:
    """JSON of bounded size; raises `Malformed`."""
    if len(body) > MAX_BODY:
        raise Malformed("the body is too large")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed("the body is not JSON") from error


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object; raises `Malformed`."""
    value = json_of(body)
    if not isinstance(value, dict):
        raise Malformed("the body is not an object")
    return value


def json_list(body: bytes) -> list[dict[str, Any]]:
    """A JSON array of objects; raises `Malformed`."""
    value = json_of(body)
    if not isinstance(value, list) or len(value) > MAX_ENTRIES or not all(isinstance(entry, dict) for entry in value):
        raise Malformed("the body is not an array of objects")
    return value


def text(entry: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    """A member as text of at most 500 characters; numbers are written out."""
    value = entry.get(name)
    if isinstance(value, str | int) and not isinstance(value, bool) and (value != "" or optional):
        return str(value)[:500]
    if optional:
        return ""
    raise Malformed(f"{name} is missing")


def mapping(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that is an object; empty when absent or anything else."""
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def china_time(value: object) -> datetime | None:
    """`YYYY-MM-DD HH:MM:SS` of UTC+8, as UTC; None when it is not one."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA).astimezone(UTC)
    except ValueError:
        return None


def epoch(value: object) -> datetime | None:
    """Seconds, milliseconds or microseconds since 1970, number or text; None when it is none of them."""
    if not isinstance(value, int | str) or isinstance(value, bool) or not re.fullmatch(r"\d{9,17}", str(value)):
        return None
    number = int(value)
    while number > 10**11:
        number //= 1000
    return datetime.fromtimestamp(number, UTC)
