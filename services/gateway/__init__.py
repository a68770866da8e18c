"""The gateway: the only door for people and intake systems.

It takes tickets in (HTTP, the Redis stream `signalbox:intake`, the Dramatiq queue `intake`), carries out people's actions, answers
queries through the other services' read-only views, and hands topics to integrators.

    intake       validate, give the first lane, open in one transaction with the wake-up of the router; then 2xx
    commit       gathers single requests that come at the same time into one commit
    streams      the intake queues: read in batches, acknowledged and confirmed after the commit
    actions      a person's command: lock the ticket, decide (pure), append
    queries      tickets, timelines, explanations, boards: ledger and views, through `access.present`
    api          HTTP: one file a family of calls; `problems` turns what is refused into RFC 9457 documents

Invariants: a 2xx on intake means committed. What is refused is refused before anything is written, with the place named. With
PostgreSQL away every call answers 503 within two seconds; without Redis nothing changes but speed.
"""
