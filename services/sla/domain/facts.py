"""What happened to a ticket, in the few words the clocks understand.

Facts are ordered as the ticket's log is; `at` is the instant it happened (aware UTC) and never runs backwards within a ticket:
the fold takes a fact that claims an earlier instant than its predecessor at the predecessor's. They encode to JSON with the tag
`fact`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec


class Fact(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="fact"):
    """Base of all facts."""

    at: datetime


class Created(Fact, frozen=True, omit_defaults=True, tag="created"):
    """The ticket began. `ready` False: policies are chosen later, at the first `Described` (when the router has classified it).

    `by_customer`: its text is a customer's first message. `version`: the playbook version it starts with; None takes the
    current one.
    """

    status: str = "new"
    attributes: dict[str, Any] = {}
    ready: bool = True
    by_customer: bool = True
    version: int | None = None


class Described(Fact, frozen=True, omit_defaults=True, tag="described"):
    """Attributes that policies match on (flat keys) have these values from now on; those not named keep theirs."""

    attributes: dict[str, Any] = {}


class StatusChanged(Fact, frozen=True, omit_defaults=True, tag="status"):
    """The ticket is in `status`; a qualifier after a colon (`pending:vendor`) may be paused on separately."""

    status: str = ""


class Replied(Fact, frozen=True, omit_defaults=True, tag="replied"):
    """An agent answered publicly. Only people stop clocks: `automated` answers count for nothing."""

    automated: bool = False


class CustomerReplied(Fact, frozen=True, omit_defaults=True, tag="customer_replied"):
    """The customer wrote. Auto-replies count for nothing."""

    automated: bool = False


class Accepted(Fact, frozen=True, omit_defaults=True, tag="accepted"):
    """A person took the ticket; a response only where the policy says so."""

    person: str | None = None


class GroupChanged(Fact, frozen=True, omit_defaults=True, tag="group"):
    """The ticket belongs to `group` now."""

    group: str | None = None


class PersonChanged(Fact, frozen=True, omit_defaults=True, tag="person"):
    """The ticket is on `person`'s desk now; None: it waits in the queue of its group."""

    person: str | None = None


class NodeEntered(Fact, frozen=True, omit_defaults=True, tag="node_entered"):
    """The flow reached `node` for the `visit`-th time. Several nodes are open at once on parallel branches."""

    node: str = ""
    visit: int = 1


class NodeCompleted(Fact, frozen=True, omit_defaults=True, tag="node_completed"):
    """The visit ended: done, or `cancelled` because a jump or a sibling ended it."""

    node: str = ""
    visit: int = 1
    cancelled: bool = False


class Merged(Fact, frozen=True, omit_defaults=True, tag="merged"):
    """The ticket lives on in another one: its clocks are cancelled for good."""


class RulesChanged(Fact, frozen=True, omit_defaults=True, tag="rules"):
    """A playbook version reaches this running ticket: from this instant on, or for its whole life."""

    version: int = 0
    mode: Literal["from-now", "whole"] = "from-now"


AnyFact = (
    Created
    | Described
    | StatusChanged
    | Replied
    | CustomerReplied
    | Accepted
    | GroupChanged
    | PersonChanged
    | NodeEntered
    | NodeCompleted
    | Merged
    | RulesChanged
)
"""Any fact: the type to decode a stored one as."""
