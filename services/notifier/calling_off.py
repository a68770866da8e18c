"""What is not sent yet about a promise is not wanted any more when the promise is cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.notifier import metrics
from services.notifier.recording import changed, event
from services.notifier.rows import Tables
from shared.contracts import events as e
from shared.contracts.envelope import New
from shared.ledger.unit import Result, Unit, Work

CLOCK_EVENTS = ("sla.at_risk", "sla.warned", "sla.breached")
"""Events about one promise."""
OFF = "the promise is off"


def cancelled_in(work: Work) -> Mapping[str, int]:
    """Metrics whose clocks a ticket's new events cancelled, each with the version of the last such event."""
    return {one.data.metric: one.version for one in work.events if isinstance(one.data, e.SlaCancelled)}


def call_off(unit: Unit, batch: Sequence[Work], tables: Tables) -> None:
    """Cancel messages that wait to be sent (collected, held or planned) about promises that the batch cancelled.

    In the batch's own transaction. One that a sender has in hand at this moment goes out; one that already carries others for
    their recipient goes out with them.
    """
    cancelled = {work.id: found for work in batch if (found := cancelled_in(work))}
    if not cancelled:
        return
    rows = []
    for row in tables.unsent_about(unit.connection, list(cancelled), CLOCK_EVENTS):
        since = cancelled[row.ticket_id or 0].get(str(row.event.get("metric")))
        if since is None or row.event_version is None or row.event_version > since:
            continue
        told = New(event("suppressed", row, row.provider, OFF))
        work = Work("delivery", row.id, row.urgency, row.version, row.version, 0, 0, unit.now, None)
        unit.settle("notifier", Result(work, (told,)))
        rows.append(changed(row, row.version + 1, "cancelled", OFF, unit.now))
        unit.after_commit.append(metrics.DELIVERIES.labels(row.channel, row.provider, "cancelled").inc)
    if rows:
        tables.record(unit.connection, rows)
