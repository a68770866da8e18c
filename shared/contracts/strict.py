"""Strict JSON for everything that comes from outside: what is odd is refused with the place named, never repaired.

Refused: bytes that are not UTF-8, NUL, lone surrogates, NaN and infinities, integers outside 64 bits, nesting deeper than 32,
keys that stand twice, unknown members, bodies over the size that the caller allows.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec

MAX_DEPTH = 32
_MAX_INT = 2**63 - 1
_PATH = re.compile(r" - at `(?:key in )?\$?(.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong and where: a JSON pointer and a sentence."""

    pointer: str
    reason: str


class Unacceptable(ValueError):
    """Input that is refused; `fault` names the place."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"{pointer or '/'}: {reason}")
        self.fault = Fault(pointer, reason)


def _refuse_constant(text: str) -> NoReturn:
    raise Unacceptable("", f"{text} is not a JSON number")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Unacceptable(f"/{twice[:100]}", "member stands twice")
    return members


def _integer(text: str) -> int:
    if len(text) > 20 or not -_MAX_INT - 1 <= int(text) <= _MAX_INT:
        raise Unacceptable("", "an integer is outside 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Unacceptable("", "a number is out of range")
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_float
)


def parse(body: bytes) -> Any:
    """Plain data of a JSON text. Raises `Unacceptable`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unacceptable("", f"not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise Unacceptable("", f"nested deeper than {MAX_DEPTH}") from None
    except json.JSONDecodeError as error:
        raise Unacceptable("", f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    _inspect(value, "", 0)
    return value


def _inspect(value: Any, pointer: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Unacceptable(pointer, f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        _inspect_text(value, pointer)
    elif isinstance(value, dict):
        for key, member in value.items():
            _inspect_text(key, pointer)
            if not isinstance(member, int | float | bool | None):
                _inspect(member, f"{pointer}/{key}", depth + 1)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            if not isinstance(member, int | float | bool | None):
                _inspect(member, f"{pointer}/{index}", depth + 1)


def _inspect_text(text: str, pointer: str) -> None:
    if text.isascii():
        if "\0" in text:
            raise Unacceptable(pointer, "text holds a NUL character")
        return
    if "\0" in text:
        raise Unacceptable(pointer, "text holds a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unacceptable(pointer, "text holds a lone surrogate") from None


def convert(value: Any, kind: type[T]) -> T:
    """Plain data as a struct, strictly. Raises `Unacceptable` with a pointer."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        match = _PATH.search(text)
        pointer = _pointer(match.group(1)) if match else ""
        reason = text[: match.start()] if match else text
        unknown = re.match(r"Object contains unknown field `(.*)`", reason)
        if unknown:
            pointer, reason = f"{pointer}/{unknown.group(1)}", "unknown member"
        missing = re.match(r"Object missing required field `(.*)`", reason)
        if missing:
            pointer, reason = f"{pointer}/{missing.group(1)}", "required member is missing"
        raise Unacceptable(pointer, reason) from None


def _pointer(path: str) -> str:
    return "".join(f"/{name or index}" for name, index in _STEP.findall(path))


def decode(body: bytes, kind: type[T]) -> T:
    """`parse`, then `convert`."""
    return convert(parse(body), kind)
