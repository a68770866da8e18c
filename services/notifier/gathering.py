"""Windows that collect: digests of a rule, late deadlines of one pass, storms of one source. A key names what belongs together.

    digest   the first message goes at once and opens the window; what comes in it goes out at its end, in one message
    late     deadlines that were noticed late (after an outage) come together: one message for each person, after a moment
    storm    more events of a source than the playbook allows: one summary after a moment, and what follows in a closing one

Nothing is lost: a message that is collected is a row like any other, held with the reason, and carried by the one that goes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.notifier.store import as_json
from shared.playbook.messages import Rule, Storm

LATE_WINDOW = timedelta(seconds=5)
SUMMARY_AFTER = timedelta(seconds=5)
"""The summary at the beginning of a storm waits so long, so that it has something to sum up."""

# In one order, so that two batches never wait for each other in a circle. `fresh`: the caller opened the window.
_OPEN = """
insert into notifier.gathering as g (key, closes_at, fresh)
select key, closes_at, true from json_to_recordset(%(rows)s) as x (key text, closes_at timestamptz) order by key
on conflict (key) do update set fresh = g.closes_at <= %(now)s,
    closes_at = case when g.closes_at <= %(now)s then excluded.closes_at else g.closes_at end
returning key, closes_at, fresh
"""
_STORM = """
insert into notifier.storm as s (source, began_at, counted, until)
select source, %(now)s, counted, case when counted > %(limit)s then %(now)s + %(per)s * 2 end
from json_to_recordset(%(rows)s) as x (source text, counted integer) order by source
on conflict (source) do update set
    began_at = case when s.began_at + %(per)s <= %(now)s then excluded.began_at else s.began_at end,
    counted = case when s.began_at + %(per)s <= %(now)s then excluded.counted else s.counted + excluded.counted end,
    until = case
        when (case when s.began_at + %(per)s <= %(now)s then excluded.counted else s.counted + excluded.counted end) > %(limit)s
        then %(now)s + %(per)s * 2 else s.until end
returning source, until
"""


@dataclass(frozen=True, slots=True)
class Window:
    """What a message is collected by: it waits until `closes_at`; `at_once`: the first of a digest does not."""

    key: str
    closes_at: datetime
    reason: str
    first_at_once: bool = False


def window(
    rule: Rule, recipient: str, channel: str, *, late: bool, source: str, storm_until: datetime | None, now: datetime
) -> Window | None:
    """The window a message belongs to, or None when it goes by itself. Pure."""
    if channel == "inbox" or rule.forced:
        return None
    if storm_until is not None and storm_until > now:
        return Window(
            f"storm|{source}|{recipient}|{channel}", storm_until, f"collected: {source} sends more than usual"
        )
    if late:
        return Window(
            f"late|{recipient}|{channel}", now + LATE_WINDOW, "collected: deadlines that were noticed late, in one message"
        )  # fmt: skip
    if rule.digest is None:
        return None
    told = f"collected for {rule.digest.window}: one message for {rule.name}"
    return Window(f"digest|{rule.name}|{recipient}|{channel}", now + rule.digest.window, told, first_at_once=True)


def open_windows(
    connection: Connection, wanted: Iterable[Window], now: datetime
) -> Mapping[str, tuple[datetime, bool]]:
    """Open or join windows: key -> (when it closes, whether it was opened just now)."""
    rows = {one.key: {"key": one.key, "closes_at": one.closes_at} for one in wanted}
    if not rows:
        return {}
    found = connection.exec_driver_sql(_OPEN, {"rows": as_json(list(rows.values())), "now": now})
    return {row.key: (row.closes_at, row.fresh) for row in found}


def count_storms(
    connection: Connection, storm: Storm, counted: Mapping[str, int], now: datetime
) -> dict[str, datetime]:
    """Count events by source; the sources that storm, and until when at least."""
    rows = [{"source": source, "counted": count} for source, count in counted.items()]
    if not rows:
        return {}
    per = timedelta(seconds=storm.per.total_seconds())
    values: dict[str, Any] = {"rows": as_json(rows), "now": now, "limit": storm.limit, "per": per}
    found = connection.exec_driver_sql(_STORM, values)
    return {row.source: row.until for row in found if row.until is not None and row.until > now}


def forget(connection: Connection, before: datetime) -> int:
    """Delete windows and storms that ended long ago."""
    gone = connection.exec_driver_sql("delete from notifier.gathering where closes_at < %s", (before,)).rowcount
    return gone + connection.exec_driver_sql("delete from notifier.storm where began_at < %s", (before,)).rowcount


def due_at(one: Window, opened: tuple[datetime, bool], first_here: bool, now: datetime) -> datetime | None:
    """When a message of a window goes: None at once. `first_here`: nothing of this batch was before it in the window. Pure."""
    closes_at, fresh = opened
    if fresh and first_here and one.first_at_once:
        return None
    if fresh and one.key.startswith("storm|"):
        return now + SUMMARY_AFTER
    return closes_at
