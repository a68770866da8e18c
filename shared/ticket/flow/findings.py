"""What a proof says about a flow that is not sound."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The kinds of findings. Each has broken flows of its own in the tests."""

    BAD_SHAPE = "bad_shape"  # a member is missing, contradicts another, or is not one of this kind of node
    UNKNOWN_NODE = "unknown_node"
    UNREACHABLE = "unreachable"  # no way leads there
    NO_EXIT = "no_exit"  # nothing follows, or in some case nothing does
    NO_END = "no_end"  # whoever is there never reaches an end
    NO_OWNER = "no_owner"
    IMPOSSIBLE = "impossible_condition"  # never true, or never asked because an earlier one always is
    DEAD_JOIN = "dead_join"  # waits for branches that do not, or may not, arrive
    DOUBLE_TOKEN = "double_token"  # branches meet without a join, so that what follows happens twice
    UNSAFE_JUMP = "unsafe_jump"
    ENDLESS = "endless"  # a loop that no person or system interrupts
    UNBOUNDED = "unbounded"  # a loop in which the number of branches grows


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: where it is written, what kind, in words, and the steps that lead to it from the start."""

    path: str
    code: Code
    message: str
    counterexample: tuple[str, ...] = ()

    def __str__(self) -> str:
        way = f" (for example: {' → '.join(self.counterexample)})" if self.counterexample else ""
        return f"{self.path}: {self.message}{way}"


class FlowUnsound(ValueError):
    """The flow cannot run; `findings` says why."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("; ".join(str(finding) for finding in findings))
        self.findings = findings
