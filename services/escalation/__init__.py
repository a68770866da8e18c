"""The escalation service: what happens if nobody moves.

It owns on-call schedules, escalation chains and the stall instants of nodes and assignments. Everything that decides is pure and
lives in `domain`; a chain is snapshotted when it starts, so that an edited playbook never changes a running escalation.
"""
