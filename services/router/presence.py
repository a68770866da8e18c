"""What an offer does to the presence of somebody who lets it pass or declines it, where the playbook says so."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shared.contracts.envelope import New
from shared.contracts.events import AgentChanged
from shared.directory.people import Directory
from shared.ledger import items
from shared.ledger.process import Deps
from shared.ledger.unit import Unit


def put(deps: Deps, unit: Unit, directory: Directory, moods: Mapping[str, tuple[str, str]]) -> Directory:
    """Set people's presence, as they would themselves; return the directory as it is then.

    Takes the lock of each person's item, in the order of their ids, before anybody's load is locked: everybody who locks both
    does it in this order.
    """
    people = dict(directory.people)
    for agent, (wanted, why) in sorted(moods.items()):
        person = people.get(agent)
        if person is None or person.presence == wanted:
            continue
        item_id, version, state = items.locked(unit.connection, deps.ids, "agent", agent)
        kept = {"presence": state.get("presence"), **state.get("overridden", {})}
        change = AgentChanged(agent=agent, presence=str(wanted))
        after = unit.append("agent", item_id, version, [New(change, {"why": why})])
        unit.bump("agent", item_id, after, state | {"presence": str(wanted), "overridden": kept})
        people[agent] = msgspec.structs.replace(person, presence=str(wanted))
    unit.after_commit.append(deps.directory.forget)
    return Directory(people, directory.groups, directory.version)
