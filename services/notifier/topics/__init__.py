"""Topics: the log as integrators read it.

    publisher   copies settled events to the Redis streams `signalbox:topic:<type>` and `signalbox:topic:all`, in order, gapless
    webhook     what a subscription is, which events it wants, when a failed delivery is tried again (pure)
    backlog     the only SQL: cursors of subscriptions, deliveries that wait, were parked, or are blocked behind another
    round       what one round of a subscription reads, calls and writes
    pump        rounds: claimed with a lease and an epoch, sent outside any transaction, recorded

Redis holds nothing of its own: the position up to which streams are written stands in Redis, set in the same transaction as the
entries, so that after a flush, or with an older copy restored, publishing goes on from what is really there. Entry ids are
positions, so that publishing again changes nothing.

Webhooks are delivered at least once, each repetition with the same `webhook-id`; receivers drop what they know.
"""
