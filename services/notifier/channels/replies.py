"""Reading what providers answer: tables of codes, retry headers, clipped texts, instants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from services.notifier.channels.base import Kind, Outcome, failed
from services.notifier.channels.http import Response
from services.notifier.errors import BadReply

CHINA = timezone(timedelta(hours=8))  # providers there write times without a zone
LONGEST_AFTER = timedelta(hours=1)  # a provider may not park a message for longer by one header


class Codes:
    """A provider's table of codes. A key ending in `*` stands for every code that begins so; exact keys win, then the
    longest prefix.
    """

    def __init__(self, table: Mapping[str, Kind], default: Kind) -> None:
        self._exact = {code: kind for code, kind in table.items() if not code.endswith("*")}
        self._prefixes = sorted(
            ((code[:-1], kind) for code, kind in table.items() if code.endswith("*")), key=lambda item: -len(item[0])
        )
        self._default = default

    def kind(self, code: str) -> Kind:
        """The outcome of a code; unknown ones get the default."""
        found = self._exact.get(code)
        if found is None:
            found = next((kind for prefix, kind in self._prefixes if code.startswith(prefix)), self._default)
        return found


def retry_after(response: Response, now: datetime, default: timedelta) -> timedelta:
    """`Retry-After` as seconds or a date, at least zero and at most an hour; `default` when absent or not readable."""
    text = response.header(b"retry-after").strip()
    if not text:
        return default
    try:
        after = timedelta(seconds=float(text)) if text[0].isdigit() else parsedate_to_datetime(text) - now
    except (ValueError, TypeError, OverflowError):
        return default
    return min(max(after, timedelta(0)), LONGEST_AFTER)


def gateway_trouble(response: Response, now: datetime) -> Outcome | None:
    """What any HTTP API means by its status alone: 5xx and 429; None for the rest, which the provider's body explains."""
    if response.status == 429:
        return failed(Kind.THROTTLED, 429, "", retry_after(response, now, timedelta(seconds=30)))
    if response.status >= 500:
        return failed(Kind.TRANSIENT, response.status)
    return None


def number(value: object) -> int:
    """A numeric code that providers write as a number or as text; raises `BadReply`."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return int(value)
    raise BadReply("no code in the answer")


def clip(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, cut between characters, with an ellipsis when cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"


def next_midnight(now: datetime, zone: timezone = CHINA) -> datetime:
    """When the provider's day turns."""
    local = now.astimezone(zone)
    return (local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)).astimezone(now.tzinfo)


def next_month(now: datetime, zone: timezone = CHINA) -> datetime:
    """When the provider's month turns."""
    local = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (local.replace(year=local.year + local.month // 12, month=local.month % 12 + 1)).astimezone(now.tzinfo)
