"""On-call schedules, pure: a schedule written in the playbook, asked who is on call and when.

Model. A schedule is compiled once (`schedule.Schedule`) into *sources* (a rotation, a rule, a shift, an override, …). Asked for a
window, each source yields *items*: half-open spans of instants with what they mean there. One sweep over their edges
(`timeline`) decides, between two edges, the set of people on call, and joins equal neighbours into *stretches*. `users_at`, the
list of shifts, gaps, conflicts with leave and the calendar feed are all read off the same sweep, so they cannot disagree.

Precedence, low to high: shifts and rules by level (rules and plain rotations are level 0), override shifts, overrides
(`remove`, replace, `add`), swaps, temporary schedules. Within one level all are on call together.

Time. Hand-offs and edges are wall times of the schedule's zone; one that the clocks skip is the instant of the jump, one that
occurs twice is its first occurrence (`walltime`). Durations of shifts are wall-clock, so a shift across a clock change is
longer or shorter in real hours. Source of the meaning: tests/vectors/README.md, kind `oncall`.
"""
