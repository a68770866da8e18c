"""A rotation: hand-offs at fixed wall-clock distances from its start, forwards and backwards without end.

Hand-off number k is the wall time `start + k * shift_length units` turned into an instant, so a rotation never drifts over a
clock change: an 8-hour rotation hands off at 02:00, 10:00 and 18:00 local all year. A shift whose wall times the clocks skip
is empty; its turn is used up, so that the same people hold the same hours before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shared.oncall.walltime import add_months, instant, wall_of
from shared.playbook.escalation import RotationSpec

_UNITS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Turn:
    """One shift of a rotation: number `index` counted from its start (negative before it)."""

    index: int
    start: datetime
    end: datetime


class Rotation:
    """A rotation compiled for its zone; all instants out are aware UTC."""

    __slots__ = ("_first", "_offset", "_spec", "_zone")

    def __init__(self, spec: RotationSpec, zone: ZoneInfo) -> None:
        self._spec, self._zone = spec, zone
        self._first = wall_of(spec.start, zone)
        self._offset = 0
        if spec.current_index is not None:
            around = spec.current_start if spec.current_start is not None else spec.start
            if around.tzinfo is None:
                around = instant(around, zone)
            self._offset = spec.current_index - self.turn_at(around).index

    def hand_off(self, index: int) -> datetime:
        """The instant at which turn `index` begins."""
        units = index * self._spec.shift_length
        if self._spec.type == "monthly":
            return instant(add_months(self._first, units), self._zone)
        return instant(self._first + units * _UNITS[self._spec.type], self._zone)

    def _guess(self, at: datetime) -> int:
        """A turn number near the one at `at`, exact but for clock changes and lengths of months."""
        wall = wall_of(at, self._zone)
        if self._spec.type == "monthly":
            months = (wall.year - self._first.year) * 12 + wall.month - self._first.month
            return months // self._spec.shift_length
        return int((wall - self._first) // (_UNITS[self._spec.type] * self._spec.shift_length))

    def turn_at(self, at: datetime) -> Turn:
        """The shift that holds `at` (its start included, its end not); there always is exactly one, and it is not empty."""
        index = self._guess(at)
        while self.hand_off(index) > at:
            index -= 1
        while self.hand_off(index + 1) <= at:
            index += 1
        return Turn(index, self.hand_off(index), self.hand_off(index + 1))

    def turns(self, start: datetime, end: datetime) -> Iterator[Turn]:
        """The shifts that touch `[start, end)`, in order, uncut; empty ones are left out."""
        turn = self.turn_at(start)
        while turn.start < end:
            if turn.start < turn.end:
                yield turn
            turn = Turn(turn.index + 1, turn.end, self.hand_off(turn.index + 2))

    def hand_offs(self, start: datetime, end: datetime) -> list[datetime]:
        """From the start of the shift at `start` to the end of the shift at `end`, every hand-off once."""
        last = self.turn_at(end)
        found = [turn.start for turn in self.turns(start, last.end)]
        return [*found, last.end]

    def holder(self, turn: Turn) -> str | None:
        """Who holds this shift; nobody when the rotation has no users."""
        users = self._spec.users
        return users[(turn.index + self._offset) % len(users)] if users else None

    def user_at(self, at: datetime) -> str | None:
        return self.holder(self.turn_at(at.astimezone(UTC)))
