"""Escalation: what if nobody moves.

It watches, for each open ticket, what somebody is expected to do by when (accept an assignment, complete a node), and runs the
chains of the playbook when they do not, when a promise is broken, or when a person asks for it.

    in     ticket.assigned, accepted, declined, transferred, queued, assignment_failed, paused, resumed, resolved, reopened, closed,
           merged; node.entered, completed; sla.breached, warned, met, cancelled; escalation.raised and acknowledged by people
    out    node.stalled, escalation.raised, stepped, ended, exhausted; ticket.transferred and set where a step says so

`domain.chain` is the engine (pure), `shared.oncall` says who is on call. A chain holds its own copy of the policy; its targets are
resolved at each step. `watching` decides what is watched and which chains begin (`expecting`, `shares` and `cards` are its parts),
`handlers` keep the rows.

Invariants: a step is taken once for each round; the overdue owner is never escalated to; a chain ends with its cause.
"""
