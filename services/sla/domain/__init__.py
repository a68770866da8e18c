"""The SLA clocks, pure: by when is something promised, and was the promise kept.

**A clock is a function of the ticket's facts, a policy version and a calendar version; nothing is accumulated.** What a `Clock`
holds of elapsed and paused time is a reading at `as_of`, never an input of the next reading: every due instant comes from
`track.segments` (which stretch of the ticket's life counted, waited or was closed, under which calendar) and `track.deadline`.

| file | holds |
|---|---|
| `facts` | what happened to a ticket, in the few words the clocks understand |
| `terms` | a compiled policy version: targets, pauses, warnings, its calendar; choosing the policy of a ticket |
| `compiling` | from the playbook's `sla` section to `terms` |
| `track` | segments, deadline, elapsed and paused time: all the arithmetic |
| `clock` | one clock cycle, its warnings, and how it is shown |
| `ticket` | `SlaState`: what is kept between two decisions |
| `kept` | how that is written and read again |
| `fold` | one fact after the other, timers fired in between by their effective instant |
| `rebase` | priority, policy or calendar changed under a running clock |
| `decide` | `decide(state, facts, now, library) -> Decision`, what the service calls |
| `compute` | `compute(facts, policy, now) -> readings`, from creation under one policy, what `eval clocks` calls |
| `moving` | preview and undo of moving a running ticket to another playbook version |
| `attribution` | whose time it was: the ticket's life split without remainder |

Invariants, each held by a test: exactly at the due instant is in time; a breach is noticed at the first instant after it; a
warning is given once per (clock, cycle, threshold, generation); an ended cycle never changes; a paused clock has no due
instant; what counted stays counted whatever changes; handling facts late, or a few at a time, gives the same clocks as handling
them at once and in time.
"""
