"""What the router decides, as pure functions: what a ticket is, and whose.

| module | decides |
|---|---|
| `labels` | where a value came from; the priority matrix |
| `classify` | labels, priority, group, lane, work of a ticket: given, by rule, by model or by default |
| `pool` | people and their loads as a plain value, loaded under the capacity lock |
| `filters` | who can take a ticket, and which filter dropped whom |
| `strategies` | who of them gets it |
| `desk`, `outcomes` | a group as compiled, a ticket's demand; what came of it, with the reason |
| `assign` | the two together, for a batch: O(log agents) a ticket, capacity exact |
| `lookahead` | a whole batch at once, by expected breach cost |
| `offers` | accept, decline, time-out, and the order in which offers go round |

Nothing here reads a clock, a database or the network: `now` and the pool are arguments. The pool is the only thing
that is changed, in place, and belongs to one batch. Decisions carry their reasons; what many tickets of a batch share
(who was dropped by which filter) is one object that they all point to.
"""
