"""The notifier: who must know, by which channel, in which words, once.

    in     every event that a message rule of the playbook listens to; its own planned steps as their instants come
    out    delivery.sent, delivered, read, failed, unknown, suppressed (items of kind `delivery`)

A *notification* is (event, recipient, channel): unique, and what the promise is about. A *message* is one address, carries one or
more notifications, and has the stable id that every attempt repeats. An *attempt* is one call.

    audience   pure: whom an event is for, and at which address
    planning   pure: which steps of a rule become messages now, which wait, which are cancelled, each with its reason
    handlers   a ticket's batch: plan; what can go at once is written as being sent, the rest waits in the agenda
    sending    a message's batch: claim, commit `sending` with an epoch, then call, then record (never a call inside a transaction)
    rows       messages and what becomes of them, and what is asked of whoever keeps them (`store`, or a memory)
    outcomes   pure: what a provider's answer makes of a message: retried, failed, unknown, sent
    channels/  one file a provider; one outcome vocabulary

Invariants: one notification for each (event, recipient, channel); a message in state `sending` has a lease in the agenda and an
epoch, and a stale sender's record is refused; a second copy exists only after a recorded `unknown`, with the same id.
"""
