"""When a join goes on, and how: counted for one passing of its fork, from where that passing's tokens are now.

Nothing is stored about arrivals: a branch has arrived when its tokens stand at the join. So a branch that is sent back is
simply no longer there, and can neither strand the join nor be counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.ticket.flow.model import FAILED, PASSED, Node
from shared.ticket.flow.state import Fork, Token
from shared.ticket.flow.structure import JoinPlan


@dataclass(frozen=True, slots=True)
class Count:
    """The branches a join awaits in one passing of its fork, by what has become of them."""

    in_favour: int
    against: int
    pending: int
    absent: int  # ended or gone elsewhere: they will not arrive any more

    def outcome(self, need: str | int) -> str | None:
        """`passed`, `failed`, or None while it is not decided and may still be either.

        `all` asks every branch that has not gone elsewhere, `any` one, a number that many. Failed is what can no longer
        pass. Nothing is decided before the first arrival.
        """
        arrived = self.in_favour + self.against
        if arrived == 0:
            return None
        wanted = arrived + self.pending if need == "all" else 1 if need == "any" else int(need)
        if self.in_favour >= wanted:
            return PASSED
        return FAILED if self.in_favour + self.pending < wanted else None


def depth_in(token: Token, fork: int) -> int | None:
    """At which depth of the token's path the fork instance is; None when the token is not inside it."""
    return next((index for index, step in enumerate(token.path) if step.fork == fork), None)


def instance_at(token: Token, plan: JoinPlan, forks: dict[int, Fork]) -> int | None:
    """The innermost passing of the join's fork that the token counts for; None when it is beside all of them."""
    for index in reversed(range(max(token.beside, 0), len(token.path))):
        fork = token.path[index].fork
        if forks[fork].node == plan.fork:
            return fork
    return None


def count(join: Node, plan: JoinPlan, fork: Fork, tokens: Iterable[Token]) -> Count:
    """Count the awaited branches of one passing of the fork."""
    votes: dict[int, list[bool | None]] = {b: [] for b in fork.branches if b in plan.awaits}
    for token in tokens:
        depth = depth_in(token, fork.id)
        if depth is None or token.beside > depth:
            continue
        vote = None if token.node != join.name else token.against
        for branch in token.path[depth].branches:
            if branch in votes:
                votes[branch].append(vote)
    pending = sum(1 for found in votes.values() if None in found)
    absent = sum(1 for found in votes.values() if not found)
    against = sum(1 for found in votes.values() if True in found and None not in found)
    return Count(len(votes) - pending - absent - against, against, pending, absent)
