"""The router: what is it, whose is it.

It owns assignments (who has which ticket, as which part of their capacity), loads, turns and the waiting list.

    in     ticket.opened, set, accepted, declined, transferred, assigned (by hand), paused, resumed, resolved, reopened, closed,
           merged; agent.changed
    out    ticket.classified, offered, assigned, queued, assignment_failed, declined (timed out)

A batch: classify each new ticket (pure, compiled rules), then lock the loads of everybody who might be chosen, in one statement and
in id order (*the capacity lock*), and give out all tickets of the batch against that one pool. So capacity is exact whatever the
number of workers, and a hundred tickets cost one lock. Manual assignments are taken over from the events; they may exceed
the capacity, are counted and flagged.

Invariants: at most one open assignment for each (ticket, node visit); an agent's load is the sum of their open assignments; a
ticket that nobody can take waits in its group, says so once, and never blocks those behind it.
"""
