"""How a recorded log is read: which column is what, and which of its values mean which act. Proven before it is used.

A mapping is one YAML file, `docs/replay.md` says what stands in it. Every mistake is found at once and named by file, line and
field: members that there are not, columns that the log does not have, zones and stamps that cannot be read, unknown acts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Mapped
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from services.control.publish import SHIPPED
from shared.playbook.source import BadPlaybook, Problem, Source, read_file
from shared.playbook.types import Config

Act = Literal["accept", "reply", "customer_reply", "note", "wait", "resolve", "close"]
"""What a value of the log's state means. Resuming and reopening are never named: a value without `wait` ends a wait, and one
without `resolve` or `close` opens again what was over."""
FOLDER = SHIPPED / "mappings"
_PLACE = re.compile(r"\{([^{}]*)\}")


class Pick(Config, frozen=True, kw_only=True):
    """A value of a ticket: a column's (through `values`, else `otherwise`, else as it stands), or a text with `{columns}`."""

    column: str | None = None
    text: str | None = None
    values: dict[str, str] = {}
    otherwise: str | None = None

    def __post_init__(self) -> None:
        if (self.column is None) == (self.text is None):
            raise ValueError("name either a column or a text")


Value = str | Pick
"""Short for `{column: NAME}`."""


class Stamp(Config, frozen=True, kw_only=True):
    """A column of instants. `format` is `iso` or a strptime pattern; `zone` that of stamps without an offset."""

    column: str
    format: str = "iso"
    zone: str = "UTC"


class Opened(Config, frozen=True, kw_only=True):
    """How the first row of a case becomes a ticket. Without `at` it was opened when its first row was written."""

    subject: Value
    at: Stamp | None = None
    body: Value | None = None
    source: Value | None = None
    kind: Value | None = None
    requester: dict[Literal["id", "name", "email", "phone", "tier"], Value] = {}
    labels: dict[str, Value] = {}
    fields: dict[str, Value] = {}


class State(Config, frozen=True, kw_only=True):
    """`columns` (joined by ` / `) say where a case stands, `values` what that means.

    A value acts when it differs from the case's last row; with `every_row` (a log of activities, not of states) each row acts.
    """

    columns: tuple[str, ...]
    values: dict[str, tuple[Act, ...]]
    every_row: bool = False
    otherwise: tuple[Act, ...] | None = None
    """For values that are not listed; without it such a row is rejected."""


class Mapping(Config, frozen=True, kw_only=True):
    """The whole file. `missing` are cells that mean nothing; `keep` narrows rows by column values."""

    case: str
    time: Stamp
    opened: Opened
    state: State
    title: str = ""
    delimiter: str = ","
    missing: tuple[str, ...] = ("",)
    group: Value | None = None
    person: Value | None = None


def find(events: Path, wanted: str | None) -> Path:
    """The mapping file: the one that is wanted (a path, or a shipped name), or the shipped one that the log is named after.

    `NAME.csv.gz`, or a part of a log like `NAME_2016.csv`, is read by `NAME.yaml`; the longest name wins. Raises `BadPlaybook`.
    """
    shipped = {one.stem: one for one in FOLDER.glob("*.yaml")}
    if wanted is not None:
        path = Path(wanted)
        if path.is_file():
            return path
        if wanted in shipped:
            return shipped[wanted]
        raise BadPlaybook([Problem(f"no mapping {wanted!r} (a file, or one of: {', '.join(sorted(shipped))})")])
    stem = events.name.split(".", 1)[0]
    named = [name for name in shipped if stem == name or stem.startswith((f"{name}_", f"{name}-"))]
    if not named:
        known = ", ".join(sorted(shipped))
        raise BadPlaybook(
            [Problem(f"no mapping is named like {events.name} (known: {known}); give one with --mapping")]
        )
    return shipped[max(named, key=len)]


def load(path: Path, columns: Sequence[str], log: str) -> Mapping:
    """Read and prove a mapping against a log's header. Raises `BadPlaybook` with all that is wrong."""
    source = read_file(path)
    mapping = _decode(source)
    problems = [source.problem(where, why) for where, why in _mistakes(mapping, columns, log)]
    if problems:
        raise BadPlaybook(problems)
    return mapping


def _decode(source: Source) -> Mapping:
    known = {field.encode_name: field for field in msgspec.structs.fields(Mapping)}
    problems = [
        source.problem((name,), f"no such member (known: {', '.join(sorted(known))})")
        for name in source.sections
        if name not in known
    ]
    for name, field in known.items():
        if name not in source.sections:
            if field.required:
                problems.append(Problem(f"a mapping needs the member `{name}`", f"{source.name}.yaml", 1, name))
            continue
        try:
            msgspec.convert(source.sections[name], field.type)
        except msgspec.ValidationError as error:
            problems.append(_invalid(source, name, error))
    if problems:
        unknown = list(_unknown_acts(source))
        raise BadPlaybook([*unknown, *(one for one in problems if not (unknown and "enum value" in one.reason))])
    return msgspec.convert(source.sections, Mapping)


def _unknown_acts(source: Source) -> Iterator[Problem]:
    """Acts that there are not, at their own lines: the decoder does not say under which value they stand."""
    state = source.sections.get("state")
    values = state.get("values") if isinstance(state, dict) else None
    for value, acts in values.items() if isinstance(values, dict) else ():
        for act in acts if isinstance(acts, list) else ():
            if act not in get_args(Act):
                yield source.problem(("state", "values", value), f"no act {act!r} (known: {', '.join(get_args(Act))})")


def _invalid(source: Source, name: str, error: msgspec.ValidationError) -> Problem:
    reason, _, where = str(error).partition(" - at `")
    steps: list[str | int] = [name]
    for part in (
        where.rstrip("`").removeprefix("key in ").lstrip("$").partition("[...]")[0].replace("[", ".[").split(".")
    ):
        if part.startswith("[") and part[1:-1].isdigit():
            steps.append(int(part[1:-1]))
        elif part:
            steps.append(part)
    return source.problem(steps, reason)


Finding = tuple[tuple[str | int, ...], str]


def _mistakes(mapping: Mapping, columns: Sequence[str], log: str) -> Iterator[Finding]:
    known = set(columns)

    def unknown(column: str) -> str | None:
        shown = ", ".join(columns[:40])
        return None if column in known else f"{log} has no column {column!r} (it has: {shown})"

    if len(mapping.delimiter) != 1:
        yield ("delimiter",), "is one character"
    for where, column in _columns(mapping):
        if (why := unknown(column)) is not None:
            yield where, why
    for where, stamp in (("time",), mapping.time), (("opened", "at"), mapping.opened.at):
        if stamp is not None:
            yield from ((where + inner, why) for inner, why in _stamp(stamp))
    for where, text in _texts(mapping):
        yield from ((where, why) for name in placeholders(text) if (why := unknown(name)) is not None)
    if not mapping.state.columns:
        yield ("state", "columns"), "names at least one column"


def _columns(mapping: Mapping) -> Iterator[tuple[tuple[str | int, ...], str]]:
    yield ("case",), mapping.case
    yield ("time", "column"), mapping.time.column
    if mapping.opened.at is not None:
        yield ("opened", "at", "column"), mapping.opened.at.column
    for index, name in enumerate(mapping.state.columns):
        yield ("state", "columns", index), name
    for where, value in _values(mapping):
        if isinstance(value, str):
            yield where, value
        elif value.column is not None:
            yield (*where, "column"), value.column


def _texts(mapping: Mapping) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for where, value in _values(mapping):
        if isinstance(value, Pick) and value.text is not None:
            yield (*where, "text"), value.text


def _values(mapping: Mapping) -> Iterator[tuple[tuple[str | int, ...], Value]]:
    opened = mapping.opened
    single: dict[tuple[str | int, ...], Value | None] = {
        ("group",): mapping.group, ("person",): mapping.person, ("opened", "subject"): opened.subject,
        ("opened", "body"): opened.body, ("opened", "source"): opened.source, ("opened", "kind"): opened.kind,
    }  # fmt: skip
    yield from ((where, value) for where, value in single.items() if value is not None)
    many: dict[str, Mapped[Any, Value]] = {
        "requester": opened.requester, "labels": opened.labels, "fields": opened.fields,
    }  # fmt: skip
    for member, values in many.items():
        yield from ((("opened", member, name), value) for name, value in values.items())


def placeholders(text: str) -> list[str]:
    """The columns that a text names. Any text may be a column's name, so nothing but braces has a meaning."""
    return _PLACE.findall(text)


def filled(text: str, cell: Callable[[str], str]) -> str:
    """The text with every `{column}` replaced by its cell."""
    return _PLACE.sub(lambda found: cell(found[1]), text)


def _stamp(stamp: Stamp) -> Iterator[Finding]:
    try:
        ZoneInfo(stamp.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield ("zone",), f"unknown time zone {stamp.zone!r}"
    if stamp.format == "iso":
        return
    try:
        seen = datetime(2016, 2, 29, 13, 5, 7)
        again = datetime.strptime(seen.strftime(stamp.format), stamp.format)
    except ValueError as error:
        yield ("format",), f"not a time format: {error}"
        return
    if (again.year, again.month, again.day) != (2016, 2, 29):
        yield ("format",), "a stamp needs year, month and day"
