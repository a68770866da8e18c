"""The ledger: the only writer of events, of items' versions and of the agenda.

*Whatever happens is one typed event in an append-only log, and in the same transaction the agenda is told who must look at that
item, and when.* Due now is the outbox, due later is the timer, `seen_version` is the inbox, `failures` is the quarantine.

Who reads what:

    kinds       which kinds of items there are, their rows, and which service each event wakes
    unit        one transaction: business now, the appends and wake-ups gathered in it, and one statement that writes them
    claim       the claim: item row and agenda row locked together, never waiting
    lane        one service's lane: claim, handle, save; failures split down to the culprit; quarantine; the journal of batches
    way         ordinary lanes of a process give way to its urgent ones
    audit       whom a worker died of, and sessions whose process stands still
    dispatch    the loop of every worker process: the next seconds of instants in memory, the sweep, the audit
    business    business now, moving it (replay, demo, tests), and the next due instant
    housekeeping  what a process shows of the agenda, its loops' heartbeats, the invariants each minute
    reader      reading the log by position without ever skipping an open transaction
    invariants  queries that must return no row

The rules that make it deadlock-free and lossless:

1. Whoever writes an agenda row of an item holds that item's row lock. Workers take it with SKIP LOCKED in the claim and never
   wait for one; people's commands wait for it, in id order.
2. Events are read in a statement *after* the lock, so that a wake-up between the two cannot be lost.
3. A handler decides inside the claim's transaction: the lock is the lease, rollback is the recovery. Only where a commit comes
   before a network call (a message being sent) is there a lease with an epoch.
4. A doorbell may be lost, doubled or late. The sweep finds the work anyway.
"""
