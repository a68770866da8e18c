"""Flows, pure: what a kind of ticket goes through, who moves it at each point, and what must be there to go on.

`model`      a flow as it is written in YAML or JSON
`program`    the same made ready to run: conditions compiled by the caller, joins matched with forks (`structure`, `graph`)
`engine`     the steps of a case: start, complete, jump, expire, waive (`run`, `joins` and `material` are its parts)
`state`      a case, and what a step answers
`proof`      whether a flow is sound, with a counterexample when it is not (`shape`, `structure`, `satisfiable`, `explore`)
`migrate`    moving a case to another version of its flow
`bpmn_import`, `bpmn_export`   BPMN 2.0, as far as docs/bpmn-profile.md goes

A case is a set of tokens. A token stands at a task or service (an open visit, numbered for each node) or waits at a join;
everything else is passed within one step. Inside a fork a token carries the *passing* of the fork it belongs to and its
branch, and a join counts where the tokens of one passing are now, not how often something arrived. What follows from it:

- a branch that is sent back stands elsewhere: the join waits for it again, and counts it once;
- a branch that ends, jumps out or is cancelled is not waited for;
- a join goes on once for each passing of its fork: as soon as it is decided, or can no longer be decided otherwise;
- what a join no longer needs is cancelled, or goes on beside the main way and is taken in when it comes to the join.

Invariants, held by tests/unit/flow: a step is taken whole or refused, never half; no token is stranded at a join; no join
goes on twice for one passing; a case that is not done has a visit that a person or system can complete.

Nothing here reads a clock, makes an id or looks anything up: expected times and timers are data for the caller, facts and
compiled conditions come from it.
"""
