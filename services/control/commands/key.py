"""`signalbox key create|list|revoke`: who may call the HTTP interface, and as whom.

`create` makes a key and prints it, this once; only its hash is stored. With `--person` it is a personal key: what is done with it
is done by that person, and its roles are theirs in the playbook unless `--role` says otherwise. A key of a system (a portal, a chat
bot) has roles, and acts for others where `--act-for` names their kind: its calls then carry `"actor": {"kind": …, "id": …}`.
A revoked key is refused within seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from services.control import platform
from services.control.cli import Failure
from shared.access import keys
from shared.access.principals import ROLES
from shared.directory.people import Directory
from shared.ledger.process import Deps
from shared.runtime.settings import Settings

ACTORS = ("person", "customer", "automation")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("key", help="API keys: make, list, revoke", description=__doc__)
    verbs = one.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="make a key and print it, this once")
    create.add_argument(
        "name", metavar="NAME", help="what it is for, as it is shown in lists and as the actor of its acts"
    )
    create.add_argument("--person", metavar="ID", help="a personal key: the person of the playbook it acts as")
    create.add_argument("--role", action="append", default=[], choices=ROLES, help="may be given several times")
    create.add_argument("--act-for", action="append", default=[], choices=ACTORS, help="whom it may name as the actor")
    create.set_defaults(run=_create)
    verbs.add_parser("list", help="keys with their roles, without the keys themselves").set_defaults(run=_list)
    revoke = verbs.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("id", type=int, metavar="ID", help="its number in the list")
    revoke.set_defaults(run=_revoke)


@contextmanager
def _connection() -> Iterator[tuple[Deps, Connection]]:
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "key", worker=False)
        with engine.connect() as connection:
            yield platform.deps(settings, engine, fresh=True), connection


def _create(args: argparse.Namespace) -> int:
    with _connection() as (given, connection):
        roles = _roles_of(given.directory.get(connection), args.person, args.role)
        if not roles:
            raise Failure("key create: name its --role, or the --person it is for")
        made = keys.create(
            connection, name=args.name, roles=frozenset(roles), person=args.person, act_for=frozenset(args.act_for)
        )
        connection.commit()
    print(made)
    return 0


def _roles_of(directory: Directory, person: str | None, asked: list[str]) -> list[str]:
    """The roles asked for, else those that the person has in the playbook, of those that a key can have: an agent's at least."""
    if person is None:
        return asked
    known = directory.person(person)
    if known is None:
        raise Failure(f"key create: there is nobody called {person!r} in the published playbook")
    return asked or [role for role in known.roles if role in ROLES] or ["agent"]


def _list(args: argparse.Namespace) -> int:
    with _connection() as (_, connection):
        for one in keys.listed(connection):
            whose = f", person {one.person}" if one.person else ""
            others = f", acts for {' '.join(one.act_for)}" if one.act_for else ""
            over = f", revoked {one.revoked_at:%Y-%m-%d %H:%M} UTC" if one.revoked_at else ""
            print(f"{one.id} {one.name}: {' '.join(one.roles)}{whose}{others}{over}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with _connection() as (_, connection):
        if not keys.revoke(connection, args.id):
            raise Failure(f"key revoke: no key {args.id} is in force (signalbox key list)")
        connection.commit()
    return 0
