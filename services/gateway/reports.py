"""What providers report, verified, and what people have read: appended to items that the notifier reads and decides about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from services.gateway.errors import Problem
from shared.contracts.envelope import Actor, New
from shared.contracts.events import Data, InboxRead, ProviderReported, Report
from shared.contracts.providers.receipts import Receipt
from shared.ledger import business, items
from shared.ledger.process import Deps
from shared.ledger.unit import Unit
from shared.playbook import secrets
from shared.playbook.messages import Provider
from shared.runtime.crash import crash_point


def provider_of(deps: Deps, connection: Connection, name: str) -> tuple[Provider, Mapping[str, str]]:
    """A provider entry of the current playbook with the secrets that are there. 404 when there is none."""
    channels = deps.playbooks.current(connection).document.channels
    found = next((one for one in channels if one.name == name), None)
    if found is None:
        raise Problem(404, "not_found", "there is no provider of that name")
    return found, secrets.known(found.secrets)


def report(deps: Deps, connection: Connection, provider: str, receipts: Iterable[Receipt], correlation: str) -> int:
    """Keep verified receipts and commit; the notifier applies them. Returns how many there were."""
    told = tuple(map(Report.of, receipts))
    if told:
        actor = Actor(kind="automation", id=provider)
        data = ProviderReported(provider=provider, receipts=told)
        _append(deps, connection, f"receipts:{provider}", data, actor, correlation)
    return len(told)


def mark_read(deps: Deps, connection: Connection, person: str, ids: Iterable[int], correlation: str) -> None:
    """Note that a person has read messages of their inbox, and commit; the notifier clears them elsewhere too."""
    actor = Actor(kind="person", id=person)
    _append(deps, connection, f"inbox:{person}", InboxRead(person=person, messages=tuple(ids)), actor, correlation)


def _append(deps: Deps, connection: Connection, key: str, data: Data, actor: Actor, correlation: str) -> None:
    item, version, _ = items.locked(connection, deps.ids, "job", key)
    unit = Unit(
        connection, business.now(connection), actor, deps.playbook_number(connection), given=True, correlation=correlation
    )  # fmt: skip
    unit.bump("job", item, unit.append("job", item, version, [New(data)]))
    unit.wake("notifier", "job", item, "normal")
    unit.flush()
    connection.commit()
    crash_point("command.committed")
    deps.bells.ring(unit.woken)
