"""The SLA service: every promise timed exactly.

It owns, for each ticket, the clocks that its policy promises. *A clock is a function of the ticket's event log, a policy version
and a calendar version*; what is stored (`sla.ticket`) is a cache of that function at a log position, and ended cycles
(`sla.ended`).

    in     ticket.opened (through classified), classified, set, accepted, assigned, transferred, replied, paused, resumed, resolved,
           reopened, closed, merged, node.entered, node.completed
    out    sla.started, sla.moved, sla.warned, sla.breached, sla.met, sla.cancelled

One agenda row a ticket, whatever the number of its clocks: `due_at` is the next instant at which anything changes, computed, never
polled. Late work is done by effective instant, in order, and marked late. A ticket keeps the playbook version it was opened under.

Invariants: a threshold warns once for each (clock, cycle, generation); a breach is noticed at the first instant after its due
instant and happens once; an ended cycle never changes; a closed ticket has no live clock.
"""
