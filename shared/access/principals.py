"""Principals, roles and what each role may do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from shared.contracts.envelope import Actor

ROLES = ("admin", "lead", "agent", "integrator", "customer")

_AGENT_ACTIONS = frozenset(
    {
        "accept", "decline", "transfer", "note", "edit_note", "open_task", "progress", "close_task",
        "reply", "set", "pause", "resume", "complete_node", "jump", "acknowledge",
        "escalate", "resolve", "reopen", "close", "merge", "watch", "unwatch",
    }
)  # fmt: skip
_ACTIONS: dict[str, frozenset[str]] = {
    "admin": _AGENT_ACTIONS | {"waive", "customer_reply", "rate"},
    "lead": _AGENT_ACTIONS | {"waive"},
    "agent": _AGENT_ACTIONS,
    "integrator": frozenset(
        {
            "note",
            "reply",
            "customer_reply",
            "set",
            "rate",
            "pause",
            "resume",
            "complete_node",
            "resolve",
            "reopen",
            "close",
        }
    ),
    "customer": frozenset({"customer_reply", "rate", "reopen"}),
}  # fmt: skip
_RIGHTS: dict[str, frozenset[str]] = {
    "admin": frozenset(
        {"open", "read", "read_all", "directory", "keys", "quarantine", "subscribe", "export", "operate"}
    ),
    "lead": frozenset({"open", "read", "read_all", "directory", "quarantine"}),
    "agent": frozenset({"open", "read", "read_all", "own_presence"}),
    "integrator": frozenset({"open", "read", "read_all", "subscribe"}),
    "customer": frozenset({"open"}),
}


class Named(Protocol):
    """Somebody as a request names them."""

    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def address(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key, the roles it has, the person it belongs to, and the kinds of actors it may act for."""

    key_id: int
    roles: frozenset[str]
    person: str | None = None
    act_for: frozenset[str] = frozenset()
    name: str = ""
    rights: frozenset[str] = field(init=False)
    actions: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rights", frozenset[str]().union(*(_RIGHTS.get(role, ()) for role in self.roles)))
        object.__setattr__(self, "actions", frozenset[str]().union(*(_ACTIONS.get(role, ()) for role in self.roles)))

    def actor(self, given: Named | None = None) -> Actor | None:
        """The actor of an act: the key's person, or the one it names and may act for; None when it may not."""
        if given is None:
            kind, who = ("person", self.person) if self.person else ("automation", self.name or f"key-{self.key_id}")
            return Actor(kind=kind, id=who, via=None if self.person else f"key-{self.key_id}")
        if given.kind == "person" and given.id == self.person:
            return Actor(kind="person", id=given.id)
        if given.kind not in self.act_for:
            return None
        return Actor(kind=given.kind, id=given.id, address=given.address, via=f"key-{self.key_id}")


SYSTEM = Principal(0, frozenset({"admin"}), name="system", act_for=frozenset({"person", "customer", "automation"}))
"""The product itself, on this machine (control, demo, replay)."""
