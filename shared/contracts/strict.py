"""Strict JSON for everything that comes from outside: what is odd is refused with the place named, never repaired.

Refused: bytes that are not UTF-8, NUL, lone surrogates, NaN and infinities, integers outside 64 bits, nesting deeper than 32,
keys that stand twice, unknown members, bodies over the size that the caller allows.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

MAX_DEPTH = 32
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
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


@dataclass(frozen=True, slots=True)
class _Bad:
    """In place of something that the parser must not repair; `_inspect` finds it, and so knows where it stands."""

    reason: str
    key: str | None = None


def _constant(text: str) -> Any:
    return _Bad(f"{text} is not a JSON number")


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return _Bad("member stands twice", twice[:100])
    return members


def _integer(text: str) -> Any:
    if len(text) > 20 or not _MIN_INT <= int(text) <= _MAX_INT:
        return _Bad("an integer is outside 64 bits")
    return int(text)


def _float(text: str) -> Any:
    value = float(text)
    return _Bad("a number is out of range") if math.isinf(value) else value


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer, parse_float=_float)


def parse(body: bytes) -> Any:
    """Plain data of a JSON text. Raises `Unacceptable`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unacceptable("", f"not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise Unacceptable("", f"nested deeper than {MAX_DEPTH} ({_too_deep(text)})") from None
    except json.JSONDecodeError as error:
        raise Unacceptable("", f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    inspect(value)
    return value


def _too_deep(text: str) -> str:
    """Where a text opens one bracket too many."""
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match.group(), 0)
        if depth > MAX_DEPTH:
            before = text[: match.start()]
            return f"line {before.count(chr(10)) + 1}, column {match.start() - before.rfind(chr(10))}"
    return "line 1"


def inspect(value: Any) -> None:
    """Raise `Unacceptable` for plain data that `parse` would have refused; for what comes decoded by somebody else."""
    _inspect(value, "", 0)


def _inspect(value: Any, pointer: str, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _inspect_text(value, pointer)
    elif kind is dict or kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            raise Unacceptable(pointer, f"nested deeper than {MAX_DEPTH}")
        if kind is dict:
            for key, member in value.items():
                if type(key) is not str:
                    raise Unacceptable(pointer, "a member's name is no text")
                _inspect_text(key, pointer)
                if member is not None and member is not True and member is not False:
                    _inspect(member, f"{pointer}/{escape(key)}", depth + 1)
        else:
            for index, member in enumerate(value):
                _inspect(member, f"{pointer}/{index}", depth + 1)
    elif kind is int:
        if not _MIN_INT <= value <= _MAX_INT:
            raise Unacceptable(pointer, "an integer is outside 64 bits")
    elif kind is float:
        if not math.isfinite(value):
            raise Unacceptable(pointer, "not a JSON number")
    elif kind is _Bad:
        raise Unacceptable(pointer if value.key is None else f"{pointer}/{escape(value.key)}", value.reason)
    elif value is not None and kind is not bool:
        raise Unacceptable(pointer, f"{kind.__name__} is nothing that JSON knows")


def escape(name: str) -> str:
    """A member's name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


def _inspect_text(text: str, pointer: str) -> None:
    if "\0" in text:
        raise Unacceptable(pointer, "text holds a NUL character")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise Unacceptable(pointer, "text holds a lone surrogate") from None


def convert(value: Any, kind: type[T]) -> T:
    """Plain data as a struct, strictly. Raises `Unacceptable` with a pointer."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        fault = _fault(str(error))
        if "/..." in fault.pointer:  # msgspec does not name the member of a map
            fault = Fault(_sharpened(value, kind, fault.pointer), fault.reason)
        raise Unacceptable(fault.pointer, fault.reason) from None


def _fault(text: str) -> Fault:
    match = _PATH.search(text)
    pointer = _pointer(match.group(1)) if match else ""
    reason = text[: match.start()] if match else text
    for pattern, why in (
        (r"Object contains unknown field `(.*)`", "unknown member"),
        (r"Object missing required field `(.*)`", "required member is missing"),
    ):
        if named := re.fullmatch(pattern, reason, re.DOTALL):
            return Fault(f"{pointer}/{escape(named.group(1))}", why)
    return Fault(pointer, reason)


def _pointer(path: str) -> str:
    return "".join(f"/{name or index}" for name, index in _STEP.findall(path))


def _sharpened(value: Any, kind: type[T], pointer: str) -> str:
    """The pointer with the first member that is at fault in place of `...`."""
    before, _, after = pointer.partition("/...")
    steps = [int(step) if step.isdigit() else step for step in before.split("/")[1:]]
    parent = value
    for step in steps:
        parent = parent[step]
    for name, member in parent.items():
        try:
            msgspec.convert(_replaced(value, steps, {name: member}), kind, strict=True)
        except msgspec.ValidationError as error:
            if before in _fault(str(error)).pointer:
                return f"{before}/{escape(name)}{after}"
    return pointer


def _replaced(value: Any, steps: Sequence[Any], by: Any) -> Any:
    """A copy of plain data with the part at `steps` replaced."""
    if not steps:
        return by
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[steps[0]] = _replaced(value[steps[0]], steps[1:], by)
    return copy


def take(value: Any, kind: type[T]) -> T:
    """`inspect`, then `convert`: plain data that somebody else decoded, leniently perhaps."""
    inspect(value)
    return convert(value, kind)


def decode(body: bytes, kind: type[T]) -> T:
    """`parse`, then `convert`."""
    return convert(parse(body), kind)
