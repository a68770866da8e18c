"""A second, naive answer to what a case does: an interpreter of the tree itself, which knows no tokens, scopes or paths.

A branch is a list of work to do and what it is at; a fork is a list of branches. Everything is changed in place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.support.flow_trees import Block, Choice, Loop, Par, Seq, Task

Visit = tuple[str, int]


@dataclass(eq=False)
class Branch:
    """A line of work: the root, a branch of a running fork, or a branch that its fork went on without (`stray`)."""

    work: Seq
    owner: Fork | Branch | None
    todo: list[Block | tuple[str, Loop]] = field(default_factory=list)
    at: Visit | Fork | None = None
    block: Task | Choice | Loop | None = None
    status: str = "running"  # arrived, against, absent
    strays: list[Branch] = field(default_factory=list)

    def visits(self) -> list[tuple[Visit, Branch]]:
        here = [(self.at, self)] if isinstance(self.at, tuple) else []
        if isinstance(self.at, Fork):
            here = [one for branch in self.at.branches for one in branch.visits()]
        return [*here, *(one for stray in self.strays for one in stray.visits())]


@dataclass(eq=False)
class Fork:
    """A running fork, and the branch it stands in."""

    block: Par
    owner: Branch
    branches: list[Branch] = field(default_factory=list)


class Model:
    """A case of a tree."""

    def __init__(self, tree: Seq) -> None:
        self.times: Counter[str] = Counter()
        self.outcome: str | None = None
        self.over = False
        self.root = Branch(tree, None, [tree])
        self._advance(self.root)

    def open(self) -> dict[Visit, Branch]:
        return {} if self.over else dict(self.root.visits())

    def done(self) -> bool:
        return not self.open()

    def choices(self, visit: Visit) -> list[str | None]:
        """The outcomes with which a visit can be completed."""
        block = self.open()[visit].block
        if isinstance(block, Choice):
            return [f"o{index}" for index in range(len(block.options))]
        if isinstance(block, Loop):
            return ["again", "on"]
        return [None, "rejected"] if isinstance(block, Task) and block.reject else [None]

    def complete(self, visit: Visit, outcome: str | None) -> None:
        branch = self.open()[visit]
        block, branch.at, branch.block = branch.block, None, None
        if isinstance(block, Choice):
            branch.todo.append(block.options[int(str(outcome)[1:])])
        elif isinstance(block, Loop) and outcome == "again":
            branch.todo.append(block)
        elif isinstance(block, Task) and outcome == "rejected":
            self._reject(branch, str(block.reject))
            return
        self._advance(branch)

    def _reject(self, branch: Branch, policy: str) -> None:
        if policy == "end":
            self.over, self.outcome = True, "rejected"
        elif policy == "vote":
            self._finish(branch, "against")
        elif policy == "back-own":
            branch.todo = [branch.work]
            self._advance(branch)
        else:
            self._back_to_root(branch)

    def _back_to_root(self, branch: Branch) -> None:
        outermost: Fork | Branch | None = None
        here: Branch | None = branch
        while here is not None and here.owner is not None:
            outermost = here.owner if isinstance(here.owner, Fork) else here
            here = here.owner.owner if isinstance(here.owner, Fork) else here.owner
        if isinstance(outermost, Branch):  # it is, or is in, what the main way went on without
            self._finish(branch, "absent")
            return
        self.root.todo, self.root.at = [self.root.work], None
        self._advance(self.root)

    def _advance(self, branch: Branch) -> None:
        while branch.todo:
            item = branch.todo.pop()
            if isinstance(item, Seq):
                branch.todo.extend(reversed(item.items))
            elif isinstance(item, Par):
                fork = Fork(item, branch)
                branch.at = fork
                fork.branches = [Branch(work, fork, [work]) for work in item.branches]
                for one in fork.branches:
                    self._advance(one)
                return
            elif isinstance(item, Loop):
                branch.todo.extend([("test", item), item.body])
            else:
                self._stand(branch, item[1] if isinstance(item, tuple) else item)
                return
        self._finish(branch, "arrived")

    def _stand(self, branch: Branch, block: Task | Choice | Loop) -> None:
        name = block.name if isinstance(block, Task) else block.task.name
        self.times[name] += 1
        branch.at, branch.block = (name, self.times[name]), block

    def _finish(self, branch: Branch, how: str) -> None:
        branch.at, branch.status = None, how
        if isinstance(branch.owner, Fork):
            self._look(branch.owner)
        elif isinstance(branch.owner, Branch):
            branch.owner.strays.remove(branch)
            self._adopt(branch.owner, branch.strays)
        else:
            self.outcome = "completed"

    def _look(self, fork: Fork) -> None:
        count = Counter(branch.status for branch in fork.branches)
        arrived = count["arrived"] + count["against"]
        if arrived == 0:
            if count["running"] == 0:
                strays = [stray for branch in fork.branches for stray in branch.strays]
                self._adopt(fork.owner, strays)
                self._finish(fork.owner, "absent")
            return
        wanted = {"all": arrived + count["running"], "any": 1}.get(str(fork.block.need)) or int(fork.block.need)
        if count["arrived"] < wanted <= count["arrived"] + count["running"]:
            return
        self._go_on(fork)

    def _go_on(self, fork: Fork) -> None:
        owner = fork.owner
        for branch in fork.branches:
            if branch.status == "running" and fork.block.keep:
                self._adopt(owner, [branch])
            elif branch.status in ("arrived", "against") or fork.block.keep:
                self._adopt(owner, branch.strays)
        owner.at = None
        self._advance(owner)

    @staticmethod
    def _adopt(owner: Branch, strays: list[Branch]) -> None:
        for stray in list(strays):
            stray.owner = owner
            owner.strays.append(stray)
