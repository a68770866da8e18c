"""From a log to what is given: openings, replies, waits, transfers, resolutions, in the order of their instants. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from services.control.replay.mapping import Mapping
from services.control.replay.reading import Log, Opening, Row

TRANSFER, RESUME, REOPEN = "transfer", "resume", "reopen"


class Given(NamedTuple):
    """What one row gives: the opening of its case, or acts on it (`group` for a transfer, `person` is the log's)."""

    at: datetime
    line: int
    case: str
    opening: Opening | None
    acts: tuple[str, ...]
    group: str | None
    person: str | None
    last: bool = False
    """Nothing more is given for this case."""


Step = tuple[datetime, list[Given]]


def given(log: Log, mapping: Mapping) -> list[Given]:
    """Everything in the order it is played: by instant, then by the log's own order; openings before acts of the same instant."""
    found: list[Given] = []
    for case, rows in log.rows.items():
        opening = log.openings[case]
        mine = [
            Given(opening.at, rows[0].line, case, opening, (), opening.group, rows[0].person),
            *_acts(rows, mapping),
        ]
        mine[-1] = mine[-1]._replace(last=True)
        found += mine
    found.sort(key=lambda one: (one.at, one.opening is None, one.line))
    return found


def steps(everything: Sequence[Given]) -> Iterator[Step]:
    """The same, all of one instant together."""
    for at, many in groupby(everything, key=lambda one: one.at):
        yield at, list(many)


def _acts(rows: Sequence[Row], mapping: Mapping) -> Iterator[Given]:
    case = _Case(mapping, rows[0].group)
    for row in rows:
        acts, group = case.take(row)
        if acts:
            yield Given(row.at, row.line, row.case, None, tuple(acts), group, row.person)


class _Case:
    """Where the log has a case to stand, row after row."""

    def __init__(self, mapping: Mapping, group: str | None) -> None:
        self._mapping, self._group = mapping, group
        self._state: str | None = None
        self._accepted = self._waits = self._over = self._closed = False

    def take(self, row: Row) -> tuple[list[str], str | None]:
        """What this row gives, and the group it hands the case to."""
        state = self._mapping.state
        meaning: Sequence[str] = state.values.get(row.state, state.otherwise or ())
        moved = row.group is not None and row.group != self._group
        acts: list[str] = []
        if state.every_row or row.state != self._state:
            acts += self._back(meaning)
            if moved:
                acts.append(self._move(row))
            acts += self._new(meaning)
        else:
            if moved and not self._over:
                acts.append(self._move(row))
            elif (
                "accept" in meaning and not self._accepted and not self._over
            ):  # the next hand at work after a transfer
                self._accepted = True
                acts.append("accept")
        self._state = row.state
        return acts, row.group if TRANSFER in acts else None

    def _move(self, row: Row) -> str:
        self._group, self._accepted = row.group, False
        return TRANSFER

    def _back(self, meaning: Sequence[str]) -> Iterator[str]:
        """What a new value undoes without saying so."""
        if self._over and not {"resolve", "close"} & set(meaning):
            self._over = self._closed = self._accepted = False
            yield REOPEN
        if self._waits and "wait" not in meaning:
            self._waits = False
            if not self._over and not {"resolve", "close", "customer_reply"} & set(meaning):
                yield RESUME

    def _new(self, meaning: Sequence[str]) -> Iterator[str]:
        for act in meaning:
            if act == "accept":
                if self._accepted or self._over:
                    continue
                self._accepted = True
            elif act == "wait":
                if self._waits:
                    continue
                self._waits = True
            elif act == "resolve":
                if self._over:
                    continue
                self._over = True
            elif act == "close":
                if self._closed:
                    continue
                self._over = self._closed = True
            yield act
