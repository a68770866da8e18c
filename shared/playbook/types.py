"""The small types every playbook section is made of, and the one way to decode them.

`Config` refuses unknown members, so that a misspelt setting is an error and never a silent default. `Duration` is written as
people say it (`15m`, `2h`, `1h30m`, `2d`, `45s`) or as a number of seconds; a day is 24 hours of the clock it is counted on.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|m|s)")
_UNIT_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}

T = TypeVar("T")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section of a playbook: immutable, keyword-only, unknown members refused."""


class Duration(timedelta):
    """A length of time as an operations person writes it."""

    @classmethod
    def parse(cls, text: str | int | float) -> Duration:
        """Read `1h30m`, `2d`, `45s` or a number of seconds; raise `ValueError` for anything else, also for negative numbers."""
        if isinstance(text, bool):
            raise ValueError("a duration is text like 1h30m, or a number of seconds")
        if isinstance(text, int | float):
            if not 0 <= text < 1e10:
                raise ValueError("a duration is at least 0 seconds and below 10,000,000,000")
            return cls(seconds=text)
        compact = text.strip()
        parts = _PART.findall(compact)
        if not parts or _PART.sub("", compact).strip():
            raise ValueError(f"not a duration: {text!r} (write 45s, 15m, 2h, 1h30m or 2d)")
        return cls(seconds=sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))

    def __str__(self) -> str:
        rest, parts = int(self.total_seconds()), []
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Duration:
    return Duration.parse(text)


@lru_cache(maxsize=4096)
def _written(seconds: float) -> str:
    return str(Duration(seconds=seconds))


def dec_hook(kind: type, value: Any) -> Any:
    """For a decoder that is kept; raises what `decode` raises."""
    if kind is Duration:
        return _parsed(value) if type(value) is str else Duration.parse(value)
    raise NotImplementedError(f"no decoder for {kind}")


def enc_hook(value: Any) -> Any:
    """For an encoder that is kept."""
    if isinstance(value, Duration):
        return _written(value.total_seconds())
    raise NotImplementedError(f"no encoder for {type(value)}")


def decode(value: Any, kind: type[T]) -> T:
    """Turn plain YAML/JSON data into `kind`; raise `msgspec.ValidationError`, whose text ends in the path (`- at `$.x[0]``)."""
    return msgspec.convert(value, kind, strict=True, dec_hook=dec_hook)


def encode(value: Any) -> bytes:
    """Canonical JSON of a section: what a playbook version stores and its checksum is taken over."""
    return _canonical.encode(value)


_canonical = msgspec.json.Encoder(enc_hook=enc_hook, order="deterministic")
