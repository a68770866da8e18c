"""The router: what is it, whose is it.

It owns assignments (who has which ticket, as which part of their capacity), loads, turns and the waiting list; what outside systems
said; tickets that a rule holds back; and published classifiers.

    in     ticket.opened, set, accepted, declined, transferred, assigned (by hand), paused, resumed, resolved, reopened, closed,
           merged; node.entered, completed; agent.changed
    out    ticket.held, classified, offered, assigned, queued, assignment_failed, declined (timed out), closed (held in vain);
           agent.changed (an offer that passed)

A batch: classify each new ticket (`classifying`: pure compiled rules; one that wants an answer from outside is put off until it is
there, at most for its budget, see `asking`; one that a rule holds back waits for others of its kind, see `holding`), then lock the
loads of all who might be chosen, in one statement and in id order (*the capacity lock*), and give out all tickets of the batch
against that one pool (`book`). So capacity is exact whatever the number of workers, and a hundred tickets cost one lock. Manual
assignments are taken over from the events; they may exceed the capacity, are counted and flagged.

Waiting tickets take part in every batch of their group as shadows (`drain`): what they would take is not given to those behind
them, and they are roused instead. Somebody who comes, learns or is freed rouses at once as many as they can take (`people`); once
a second the whole list is looked at, for what no event tells and for what was busy when it was roused.

Locks, in this order and never back: tickets (the claim), keys of held kinds, people's items (`presence`), the line of large batches
(`store.lock_loads`), loads.

Invariants: at most one open assignment for each (ticket, node visit); an agent's load is the sum of their open assignments; a
ticket that nobody can take waits in its group, says so once, and never blocks those behind it. Rules that would take too long on a
ticket are not run: the ticket goes to triage, and rules that are to blame three times are left out (`shared.playbook.ruleindex`).
"""
