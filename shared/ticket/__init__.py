"""The ticket, pure: its state as the projection of its events, its commands, its state machine, its flow.

`projection.evolve(ticket, event)` is the only way a ticket changes; `commands.decide(ticket, command, …)` turns what somebody wants
into events or a refusal with a reason (`actions` has the forms they are posted in); `course` takes a ticket's steps in its `flow`.
None of them reads a clock or a database. A ticket's status is one of

    new          not assigned: waiting for the router, or in a group's queue
    assigned     somebody has it, and has not accepted
    in_progress  accepted
    pending      waiting for somebody outside; clocks pause as the policy says
    resolved     the work is done; the customer may still reopen
    closed       the end (a reopen starts a new stretch)
    merged       the end; the work goes on in another ticket

Invariants: at most one open assignment for each (ticket, node visit); `assignment` grows with each, so that a stale accept,
offer or timer is recognised; a merged ticket never changes again.
"""
