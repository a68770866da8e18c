"""How rows lie in their tables: an answer is written into its message's page, and a ticket's deliveries are found."""

from __future__ import annotations

from services.notifier.null_sender import accepts
from tests.support.desk import Desk
from tests.support.waiting import wait_for

COUNTED = "select n_tup_upd as changed, n_tup_hot_upd as within from pg_stat_user_tables where relname = 'message'"


def test_an_answered_message_stays_in_its_page(desk: Desk) -> None:
    desk.answer = accepts
    desk.publish_changed(
        lambda text: text.replace("plan: [{channel: inbox}, {channel: sms, wait: 0s}]", "plan: [{channel: sms}]")
    )
    desk.open_many([{"subject": f"printer {number}"} for number in range(40)])
    sent = sum(job.row.channel == "sms" for job in desk.sent)
    assert sent > 20  # more than a page of them
    desk.database.dispose()  # a session tells its figures when it ends
    [counted] = wait_for(lambda: [row for row in desk.rows(COUNTED) if row.changed == sent])
    assert counted.within == counted.changed


def test_a_tickets_deliveries_are_found_by_their_promises(desk: Desk) -> None:
    ticket = desk.open()
    with desk.database.begin() as connection:
        connection.exec_driver_sql("set local enable_seqscan = off")
        asked = "select id, ticket_id, channel from notifier.v_delivery where ticket_id = %s order by id"
        found = connection.exec_driver_sql(asked, (ticket,)).all()
        plan = "\n".join(line for (line,) in connection.exec_driver_sql(f"explain {asked}", (ticket,)))
    assert [(row.ticket_id, row.channel) for row in found] == [(ticket, "sms"), (ticket, "inbox")]
    assert "Index Cond: ((event_kind = 'ticket'::text) AND (event_item = " in plan
