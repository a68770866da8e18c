"""Sound flows with something changed at random. Many are broken by it; what the proof still passes must run."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

from tests.support.flow_trees import TreeMaker, drawn

Nodes = list[dict[str, Any]]


def changed_flow(random: Random) -> Nodes:
    """The nodes of a block-structured flow with one to three changes; the first is its start."""
    nodes = deepcopy(drawn(TreeMaker(random, size=random.choice([3, 5, 8])).tree()))
    for _ in range(random.randint(1, 3)):
        random.choice([_redirect, _redirect, _another_branch, _join, _jump, _timer, _leave, _reject])(random, nodes)
    return nodes


def _pick(random: Random, nodes: Nodes, *kinds: str) -> dict[str, Any] | None:
    fitting = [node for node in nodes if node.get("kind", "task") in kinds]
    return random.choice(fitting) if fitting else None


def _anywhere(random: Random, nodes: Nodes) -> str:
    return str(random.choice(nodes)["name"])


def _redirect(random: Random, nodes: Nodes) -> None:
    """One way leads somewhere else."""
    node = _pick(random, nodes, "task", "fork", "join")
    if node is None:
        return
    ways = [node["next"]] if isinstance(node["next"], str) else list(node["next"])
    at = random.randrange(len(ways))
    to = _anywhere(random, nodes)
    ways[at] = {**ways[at], "to": to} if isinstance(ways[at], dict) else to
    node["next"] = ways


def _another_branch(random: Random, nodes: Nodes) -> None:
    """A fork gets a further branch, or one it had with a condition."""
    fork = _pick(random, nodes, "fork")
    if fork is not None:
        ways = [one if isinstance(one, dict) else {"to": one} for one in fork["next"]]
        if random.random() < 0.5:
            random.choice(ways)["when"] = {"priority": "urgent"}
        else:
            ways.append({"to": _anywhere(random, nodes)})
        fork["next"] = ways


def _join(random: Random, nodes: Nodes) -> None:
    """A join needs something else."""
    join = _pick(random, nodes, "join")
    if join is not None:
        join |= {"need": random.choice(["all", "any", 1, 2, 3]), "rest": random.choice(["cancel", "keep"])}


def _jump(random: Random, nodes: Nodes) -> None:
    """A task gets a jump."""
    task = _pick(random, nodes, "task")
    if task is not None:
        task["jumps"] = [{"to": _anywhere(random, nodes), "siblings": random.choice(["cancel", "keep"])}]


def _timer(random: Random, nodes: Nodes) -> None:
    """A task gets a timer."""
    task = _pick(random, nodes, "task")
    if task is not None:
        task["timers"] = [{"after": "1h", "to": _anywhere(random, nodes), "interrupts": random.random() < 0.5}]


def _leave(random: Random, nodes: Nodes) -> None:
    """A task gets an outcome with which it leaves its fork."""
    task = _pick(random, nodes, "task")
    if task is not None and isinstance(task["next"], str):
        way = {"to": _anywhere(random, nodes), "when": {"outcome": "x"}, "siblings": random.choice(["cancel", "keep"])}
        task |= {"outcomes": ["x", "y"], "next": [way, task["next"]]}


def _reject(random: Random, nodes: Nodes) -> None:
    """A task gets another reject policy."""
    task = _pick(random, nodes, "task")
    if task is not None:
        back = {"back": _anywhere(random, nodes), "siblings": random.choice(["cancel", "keep"])}
        task["on_reject"] = random.choice(["vote", "end", back])
