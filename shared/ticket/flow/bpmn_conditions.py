"""Conditions of BPMN files: the comparisons people write in modellers, turned into conditions of a playbook.

    ${amount > 1000 && region == 'north'}     (Camunda 7, Flowable)
    = amount > 1000 and region = "north"      (FEEL, Camunda 8)

Facts compared with literals, `and`, `or`, `not` and brackets. A bare name is a field of the ticket (`amount` is
`fields.amount`), unless it is one of the ticket's own facts; a dotted name is taken as it is. Nothing is evaluated: whatever
does not fit this grammar (calls, arithmetic, two facts compared) is refused.
"""

from __future__ import annotations

import re
from typing import Any

OWN_FACTS = frozenset({"priority", "source", "kind", "outcome", "visit", "subject"})
MAX_TOKENS = 200

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?)(?![\w.])
        |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
        |(?P<op>==|!=|<=|>=|&&|\|\||[=<>!()])
        |(?P<word>[^\W\d][\w]*(?:\.[\w]+)*))""",
    re.VERBOSE,
)
_WORDS = {"and": "&&", "or": "||", "not": "!", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_FLAGS = {"true": True, "false": False}

Condition = dict[str, Any]


def read(expression: str) -> Condition:
    """Turn an expression into a condition; raise `ValueError` that says what is not understood."""
    reader = _Reader(_tokens(_bare(expression)))
    found = reader.either()
    reader.finish()
    return found


def _bare(expression: str) -> str:
    text = expression.strip()
    if text[:2] in ("${", "#{") and text.endswith("}"):
        return text[2:-1]
    return text[1:] if text.startswith("=") else text


def _tokens(text: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or len(found) >= MAX_TOKENS:
            raise ValueError(f"a condition compares facts with values; {text[at:].strip()[:30]!r} is not understood")
        at = match.end()
        kind = str(match.lastgroup)
        found.append(_token(kind, match.group(kind)))
    return found


def _token(kind: str, written: str) -> tuple[str, Any]:
    if kind == "number":
        return "value", float(written) if "." in written else int(written)
    if kind == "text":
        return "value", re.sub(r"\\(.)", r"\1", written[1:-1])
    if kind == "word" and written in _WORDS:
        return "op", _WORDS[written]
    if kind == "word" and written in _FLAGS:
        return "value", _FLAGS[written]
    return ("op", "==" if written == "=" else written) if kind == "op" else ("fact", written)


class _Reader:
    """Recursive descent: either (or) → both (and) → single."""

    def __init__(self, tokens: list[tuple[str, Any]]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self) -> tuple[str, Any]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", None)

    def _take(self, op: str) -> bool:
        if self._next() != ("op", op):
            return False
        self._at += 1
        return True

    def either(self) -> Condition:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else {"any": parts}

    def _both(self) -> Condition:
        parts = [self._single()]
        while self._take("&&"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else {"all": parts}

    def _single(self) -> Condition:
        if self._take("!"):
            return {"not": self._single()}
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise ValueError("a bracket is not closed")
            return inner
        kind, name = self._next()
        if kind != "fact":
            raise ValueError("a condition begins with the name of a fact")
        self._at += 1
        return self._comparison(name if "." in name or name in OWN_FACTS else f"fields.{name}")

    def _comparison(self, fact: str) -> Condition:
        kind, op = self._next()
        if kind != "op" or op not in (*_RANGES, "==", "!="):
            return {fact: True}
        self._at += 1
        kind, value = self._next()
        if kind != "value":
            raise ValueError(f"{fact.removeprefix('fields.')} is not compared with a value")
        self._at += 1
        if op in _RANGES:
            return {fact: {_RANGES[op]: value}}
        return {fact: value} if op == "==" else {fact: {"not": value}}

    def finish(self) -> None:
        if self._at < len(self._tokens):
            raise ValueError(f"{self._tokens[self._at][1]!r} is not understood")
