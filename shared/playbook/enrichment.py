"""Asking outside systems, the pure part: addresses made from facts, answers made into facts.

An address is a template: `{fact}` stands for the percent-encoded value of a fact, as in
`https://mes.example/devices/{fields.device}/status`. Scheme, host and port are written out, never made from facts, and
the host is one of the allow list (`mes.example`, `mes.example:8443` or `*.example`). A fact that is absent, empty, `.`
or `..` leaves no address: then nobody is asked and the default holds.

An answer is a JSON object; nested members become facts with dots (`enrich.NAME.line.status`), lists of plain values
stay lists, and everything else is left out. Size, depth and number are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

MAX_ADDRESS = 1_500
MAX_ANSWER_BYTES = 64 << 10
MAX_FACTS = 200
MAX_DEPTH = 4
MAX_TEXT = 1_000
_PLACE = re.compile(r"\{([^{}]*)\}")
Value = str | int | float | bool | list[Any]


def facts_named(template: str) -> tuple[str, ...]:
    """The facts that an address is made from, in order."""
    return tuple(_PLACE.findall(template))


def fault_of(template: str, allow: tuple[str, ...]) -> str | None:
    """What is wrong with an address template; None when it may be called."""
    parts = urlsplit(template)
    if parts.scheme not in ("http", "https"):
        return "an address begins with http:// or https://"
    if not parts.hostname or _PLACE.search(parts.netloc) or "{" in parts.netloc:
        return "the host is written out, not made from facts"
    if parts.username is not None:
        return "no user name in an address: use `headers` with a secret"
    try:
        port = parts.port
    except ValueError:
        return "the port is a number up to 65535"
    if not _allowed(parts.hostname, port, allow):
        return f"the host {parts.hostname} is not in `allow`"
    if _PLACE.sub("", template).count("{") or _PLACE.sub("", template).count("}"):
        return "a brace without its partner"
    return None


def _allowed(host: str, port: int | None, allow: tuple[str, ...]) -> bool:
    return any(
        one in (host, f"{host}:{port}") or (one.startswith("*.") and host.endswith(one[1:]))
        for one in map(str.lower, allow)
    )


def address(template: str, facts: Mapping[str, Any]) -> str | None:
    """The address for a ticket with these facts, or None when one that it needs is missing."""
    values: dict[str, str] = {}
    for name in facts_named(template):
        value = facts.get(name)
        text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if text.strip() in ("", ".", ".."):
            return None
        values[name] = quote(text, safe="")
    found = _PLACE.sub(lambda place: values[place[1]], template)
    return found if len(found) <= MAX_ADDRESS else None


def facts_of_answer(answer: Any) -> dict[str, Value]:
    """The facts in an answer, without their prefix. Raises `ValueError` when the answer is no object."""
    if not isinstance(answer, Mapping):
        raise ValueError("the answer is no JSON object")
    found: dict[str, Value] = {}
    for name, value in _flat(answer, 1):
        if len(found) >= MAX_FACTS:
            break
        found[name] = value
    return found


def _flat(answer: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Value]]:
    for name, value in answer.items():
        if isinstance(value, Mapping):
            if depth < MAX_DEPTH:
                yield from ((f"{name}.{below}", one) for below, one in _flat(value, depth + 1))
        elif isinstance(value, list):
            if all(_plain(one) for one in value):
                yield name, value[:MAX_FACTS]
        elif _plain(value):
            yield name, value


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
