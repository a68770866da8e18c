"""Business time: when a team is open, and which instant is so much open time away.

What it owns. `CalendarSpec` says when a calendar is open, in the neutral form of `tests/vectors/README.md`; `BusinessCalendar` is
that specification compiled, and answers *by when* (`add`), *how long* (`between`), *open or not*, and the same in working days.
`ALWAYS_OPEN` stands for "no calendar": every second counts.

How. Wall times become instants once, when a stretch of about 100 days is compiled (`timeline`): a sorted list of open intervals in
microseconds since 1970 UTC, with the open time before each. All questions are then a binary search and integer arithmetic, so zones
and clock changes cost nothing later and every answer is exact to the microsecond.

What always holds, and is held by tests against an independent checker:

- `between(start, add(start, work)) == work` for every `work` the calendar can give, forwards and backwards;
- `between` adds up: a..b plus b..c is a..c, and b..a is the negative of a..b;
- `add` never goes back in time, and more work is never due earlier;
- a calendar that opens no more answers None; no question loops for ever.

Pure: no clock, no input or output, safe to share between threads.
"""

from shared.calendar.business import ALWAYS_OPEN, BusinessCalendar
from shared.calendar.spec import Break, CalendarSpec, Override, Segment, WeeklySegment

__all__ = ["ALWAYS_OPEN", "Break", "BusinessCalendar", "CalendarSpec", "Override", "Segment", "WeeklySegment"]
