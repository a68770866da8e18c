"""A schedule as an iCalendar feed (RFC 5545), so that people see their duty in their own calendar."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from icalendar import Calendar, Event

from shared.oncall.schedule import Schedule

PAST = timedelta(days=14)
AHEAD = timedelta(days=90)
"""What a feed shows around now; calendars poll, so a longer one only costs."""

REFRESH = timedelta(hours=1)


def calendar_feed(
    schedule: Schedule,
    now: datetime,
    *,
    names: Mapping[str, str] | None = None,
    only: str | None = None,
    past: timedelta = PAST,
    ahead: timedelta = AHEAD,
) -> bytes:
    """The stretches of duty around `now` as a VCALENDAR in UTF-8; instants in UTC.

    `names` maps ids to what is shown; `only` leaves one person's duty. The window is cut to whole UTC days and an event's uid
    depends on the schedule, the person and its start alone, so that a poll an hour later updates events and doubles none.
    """
    shown = names or {}
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    opens = midnight - past
    calendar = Calendar()
    calendar.add("prodid", "-//Signalbox//On call//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("x-wr-calname", f"On call: {schedule.spec.name or 'schedule'}")
    calendar.add("x-wr-timezone", schedule.spec.tz)
    calendar.add("refresh-interval", REFRESH, parameters={"value": "DURATION"})
    for stretch in schedule.shifts(opens, midnight + ahead):
        if only is not None and stretch.user != only:
            continue
        event = Event()
        # The window cuts a stretch that began before it; it keeps one uid though its shown start moves from day to day.
        since = "before" if stretch.start == opens else stretch.start.isoformat()
        identity = f"{schedule.spec.name}\n{stretch.user}\n{since}"
        event.add("uid", f"{sha256(identity.encode()).hexdigest()[:32]}@signalbox")
        event.add("dtstamp", now)
        event.add("dtstart", stretch.start)
        event.add("dtend", stretch.end)
        event.add("summary", f"{shown.get(stretch.user, stretch.user)} on call: {schedule.spec.name or 'schedule'}")
        event.add("transp", "TRANSPARENT")
        calendar.add_component(event)
    text: bytes = calendar.to_ical()
    return text
