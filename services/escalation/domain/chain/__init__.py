"""Escalation chains, pure: who is told when nobody moves, step by step, until somebody takes it.

    start(chain, cause, …) -> ChainState          the policy is copied into the state: later edits do not touch it
    decide(state, commands, facts, view, now)     what people did since, then what is due; -> Decision(state', effects, due_at)

States of a chain:

    active          a step is to come at `due_at` (or somebody's time to answer runs)
    acknowledged    somebody has it; nothing happens until the acknowledgement expires, if it does
    exhausted       all rounds are over, or a round found nobody; the fallback owner was told once
    ended           the reason to escalate is gone; nothing can restart it

Invariants, each held by a property in tests/unit/escalation:

- each step is taken once a round (and once more when an acknowledgement for it expires), never early, in order;
- no person is named twice in one step, and the overdue owner never;
- an empty step is passed at once, with the reason of every target; a round that reached nobody is the last one: one
  `Exhausted`, never a busy loop;
- what people did counts before what is due: a late worker tells nobody whom an acknowledgement had already spared;
- a decision with nothing new is a no-op, and a timer set for an older generation does nothing.
"""
