"""One-click links: made for a message, kept as hashes, pressed once.

A link is bound to a ticket, an action, a person and an assignment. Its token and the short code that is printed beside it in the
message are derived from the message's id with a key that is not in the database (every attempt of a message says the same), so
that what is stored proves a token and gives none away:

    token  base64url(message id, 8 bytes, and 16 bytes of HMAC-SHA256(key, "link" id action))
    code   six digits of HMAC-SHA256(key, "code" id)
    row    for each action the SHA-256 of the token, and that of token and code together

Whoever presses gives the code too (mail scanners follow links and press buttons, but type nothing), or is signed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection

ACTIONS = ("accept", "decline", "transfer", "note", "acknowledge")
"""What a link may do."""
LIFETIME = timedelta(hours=24)
WRONG_CODES = 8
"""So many wrong codes close a link: with a million codes that leaves a guesser 8 chances in a million."""


@dataclass(frozen=True, slots=True)
class Made:
    """The links of one message: token by action, the code, and the row that keeps their hashes."""

    tokens: Mapping[str, str]
    code: str
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """A stored link, as one token opens it."""

    message_id: int
    action: str
    ticket_id: int
    person: str
    assignment: int
    escalation: int | None
    node: str | None
    expires_at: datetime
    used_at: datetime | None
    wrong: int
    code_hash: bytes
    token: str

    def knows(self, code: str) -> bool:
        """Whether this is the code of the message; compared in constant time."""
        return hmac.compare_digest(_code_hash(self.token, code.strip()), self.code_hash)


def make(
    key: bytes,
    message_id: int,
    actions: Iterable[str],
    *,
    ticket_id: int,
    person: str,
    assignment: int,
    escalation: int | None,
    node: str | None,
    expires_at: datetime,
) -> Made:
    """Links of a message for these actions; the same arguments always make the same tokens. Pure."""
    number = message_id.to_bytes(8)
    tokens = {
        action: base64.urlsafe_b64encode(number + hmac.digest(key, b"link" + number + action.encode(), "sha256")[:16])
        .decode()
        .rstrip("=")
        for action in actions
    }
    code = f"{int.from_bytes(hmac.digest(key, b'code' + number, 'sha256')[:8]) % 1_000_000:06}"
    hashes = {
        action: [hashlib.sha256(token.encode()).hexdigest(), _code_hash(token, code).hex()]
        for action, token in tokens.items()
    }
    row = {
        "message_id": message_id,
        "ticket_id": ticket_id,
        "person": person,
        "assignment": assignment,
        "escalation": escalation,
        "node": node,
        "expires_at": expires_at,
        "actions": hashes,
    }
    return Made(tokens, code, row)


def _code_hash(token: str, code: str) -> bytes:
    return hashlib.sha256(f"{token}:{code}".encode()).digest()


def keep(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Store links. A message that is sent again has the same ones, bound to what is so now; what was used stays used."""
    if rows:
        connection.exec_driver_sql(_KEEP, {"rows": msgspec.json.encode(rows).decode()})


def find(connection: Connection, token: str, *, lock: bool = False) -> Link | None:
    """The link of a token, or None; `lock` makes two people who press wait for each other."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii", "replace") + b"=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    if len(raw) != 24 or len(token) != 32 or raw[0] >= 128:
        return None
    row = connection.exec_driver_sql(
        f"""select message_id, ticket_id, person, assignment, escalation, node, expires_at, actions, used, wrong
        from access.action_link where message_id = %s {"for update" if lock else ""}""",
        (int.from_bytes(raw[:8]),),
    ).one_or_none()
    if row is None:
        return None
    given = hashlib.sha256(token.encode()).hexdigest()
    for action, (token_hash, code_hash) in row.actions.items():
        if hmac.compare_digest(given, token_hash):
            used = row.used.get(action)
            return Link(
                row.message_id, action, row.ticket_id, row.person, row.assignment, row.escalation, row.node, row.expires_at,
                None if used is None else datetime.fromisoformat(used), row.wrong, bytes.fromhex(code_hash), token,
            )  # fmt: skip
    return None


def use(connection: Connection, link: Link, at: datetime) -> None:
    """Mark a locked link's action as done."""
    connection.exec_driver_sql(
        "update access.action_link set used = used || jsonb_build_object(%s::text, %s::text) where message_id = %s",
        (link.action, at.isoformat(), link.message_id),
    )


def note_wrong(connection: Connection, link: Link) -> None:
    """Count a wrong code."""
    connection.exec_driver_sql(
        "update access.action_link set wrong = wrong + 1 where message_id = %s", (link.message_id,)
    )


def forget(connection: Connection, before: datetime, limit: int = 5_000) -> int:
    """Delete links that ended before an instant; returns how many."""
    return connection.exec_driver_sql(
        """delete from access.action_link where message_id in
        (select message_id from access.action_link where expires_at < %s limit %s)""",
        (before, limit),
    ).rowcount


_KEEP = """
insert into access.action_link as l (message_id, ticket_id, person, assignment, escalation, node, expires_at, actions)
select message_id, ticket_id, person, assignment, escalation, node, expires_at, actions
from json_to_recordset(%(rows)s) as x (message_id bigint, ticket_id bigint, person text, assignment integer, escalation integer,
    node text, expires_at timestamptz, actions jsonb)
on conflict (message_id) do update set actions = excluded.actions, assignment = excluded.assignment,
    escalation = excluded.escalation, node = excluded.node
"""
