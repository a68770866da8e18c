"""What must be true after a run. Sources: the load's journal, HTTP, read-only SQL, and what the sinks recorded; nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import requests
from psycopg.rows import namedtuple_row

from shared.contracts.envelope import Recorded
from shared.ledger.invariants import INVARIANTS
from shared.ledger.unit import decode_ticket, recorded
from shared.ticket.projection import project
from tests.faults.scenario import Run
from tests.faults.world import KEY, World
from tests.support.journal import judge, read, told

SOURCES = ("http", "stream", "dramatiq")


@dataclass
class Verdict:
    """Everything that is wrong, by name; `holds` when nothing is. `facts` are figures worth showing."""

    wrong: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.wrong

    def note(self, name: str, found: Any) -> None:
        """Remember what is wrong, if anything is."""
        if found:
            self.wrong[name] = found[:5] if isinstance(found, list) else found


def judge_run(world: World, run: Run, url: str) -> Verdict:
    """The whole judgement of a run that has settled."""
    verdict = Verdict()
    _tickets(world, run, url, verdict)
    _invariants(world, verdict)
    _replayed(world, verdict)
    _assignments(world, verdict)
    _deliveries(world, verdict)
    if run.settled_after is None:
        due = (
            "select service, kind, lane, count(*) from ledger.agenda where due_at < clock_timestamp() group by 1, 2, 3"
        )
        verdict.note("backlog", world.rows(due))
    verdict.facts |= {
        "tickets": run.http.accepted + run.stream.accepted,
        "attempts": run.http.attempts + run.stream.attempts,
        "statuses": dict(sorted(run.http.statuses.items())),
        "acted": dict(sorted(run.acted.statuses.items())),
        "settled_after": run.settled_after,
        "backlog_after_10_s": run.backlog,
    }
    strange = [one for one in run.acted.surprises if not one.startswith("0 ")]
    verdict.note("people were answered strangely", strange)
    return verdict


def _tickets(world: World, run: Run, url: str, verdict: Verdict) -> None:
    found = world.rows("select source, external_id, id::text from ledger.ticket")
    judgement = judge(told(read(run.journal)), [(str(a), str(b), str(c)) for a, b, c in found])
    for name in ("lost", "doubled", "phantom", "other_id", "refused_but_there"):
        verdict.note(name, list(getattr(judgement, name)))
    verdict.note("open", run.http.open + run.stream.open + run.unsettled)
    verdict.note("refused", run.http.refused + run.stream.refused)
    verdict.note("seen otherwise by HTTP", sorted({str(row[2]) for row in found} ^ _listed(url)))


def _listed(url: str) -> set[str]:
    """Ids of all tickets, read page by page."""
    found: set[str] = set()
    cursor = ""
    while True:
        params = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
        answer = requests.get(
            f"{url}/v1/tickets", params=params, headers={"Authorization": f"Bearer {KEY}"}, timeout=30
        )
        answer.raise_for_status()
        page = answer.json()
        found |= {one["id"] for one in page["items"]}
        if page["next"] is None:
            return found
        cursor = page["next"]


def _invariants(world: World, verdict: Verdict) -> None:
    for one in INVARIANTS:
        verdict.note(f"invariant {one.name}", world.rows(f"select * from ({one.query}) broken limit 5"))
    verdict.note(
        "quarantined",
        world.rows("select service, kind, id, error from ledger.agenda where quarantined_at is not null"),
    )


def _replayed(world: World, verdict: Verdict) -> None:
    """Every ticket is what its events make of it, from the first to the last."""
    events: dict[int, list[Recorded]] = {}
    with psycopg.connect(world.postgres.url, row_factory=namedtuple_row) as connection:
        connection.read_only = True
        statement = """select id, version, type, happened_at, recorded_at, actor::text as actor, given, playbook, correlation,
            position, reason::text as reason, data::text as data from ledger.event where kind = 'ticket' order by id, version"""
        for row in connection.execute(statement):
            events.setdefault(row.id, []).append(recorded("ticket", row))
        stored = {row.id: row.state for row in connection.execute("select id, state::text as state from ledger.ticket")}
    verdict.note(
        "not what its events say", [one for one in stored if project(events[one]) != decode_ticket(stored[one])]
    )


def _assignments(world: World, verdict: Verdict) -> None:
    """Each ticket is routed once: no worker's death gives it away a second time."""
    verdict.note(
        "not assigned exactly once",
        world.rows(
            """select t.id, count(e.version) from ledger.ticket t
            left join ledger.event e on e.kind = 'ticket' and e.id = t.id and e.type = 'ticket.assigned'
            group by t.id having count(e.version) <> 1"""
        ),
    )


def _deliveries(world: World, verdict: Verdict) -> None:
    """Each promise once; a second copy at a sink only after a recorded `unknown`, and under the same id."""
    verdict.note(
        "not announced exactly once by a channel",
        world.rows(
            """select t.id, t.priority, count(n.id) from ledger.ticket t
            left join notifier.notification n on n.ticket_id = t.id and n.event_type = 'ticket.assigned'
            group by t.id having count(n.id) <> case t.priority when 'urgent' then 3 else 2 end"""
        ),
    )
    verdict.note(
        "messages without an end",
        world.rows("select state, count(*) from notifier.message where state not in ('sent', 'unknown') group by 1"),
    )
    came = Counter(_sms(world)) + Counter(_mails(world))
    known: dict[str, tuple[str, int]] = {
        f"sb-{number}": (state, unknowns)
        for number, state, unknowns in world.rows(
            """select id, state, (select count(*) from jsonb_array_elements(attempts) a where a ->> 'outcome' = 'unknown')
            from notifier.message where channel <> 'inbox'"""
        )
    }
    verdict.note("messages made up", sorted(came.keys() - known.keys()))
    verdict.note(
        "sent but never arrived", [one for one, (state, _) in known.items() if state == "sent" and not came[one]]
    )
    verdict.note(
        "copies without a reason", [one for one, count in came.items() if count > 1 + known.get(one, ("", 0))[1]]
    )
    unknown = [one for one, (state, _) in known.items() if state == "unknown"]
    verdict.note("never arrived", [one for one in unknown if not came[one]])
    verdict.facts |= {
        "messages": len(known),
        "copies": sum(count - 1 for count in came.values()),
        "unknown": len(unknown),
    }


def _sms(world: World) -> list[str]:
    return [
        message["id"]
        for request in world.sms.to("/sms/messages")
        if request.method == "POST" and request.acknowledged
        for message in orjson.loads(request.body)["messages"]
    ]


def _mails(world: World) -> list[str]:
    return [str(one.parsed["Message-ID"]).strip("<>").partition("@")[0] for one in world.smtp.acknowledged]


def assign_seconds(world: World, run: Run) -> list[float]:
    """Seconds from the last request for a ticket, which was answered 2xx, to its assignment; sorted."""
    asked: dict[tuple[str, str], Any] = {}
    for entry in read(run.journal):
        if entry.phase == "asked":
            asked[entry.key] = entry.at
    rows = world.rows(
        """select t.source, t.external_id, min(e.recorded_at) from ledger.ticket t
        join ledger.event e on e.kind = 'ticket' and e.id = t.id and e.type = 'ticket.assigned' group by t.id"""
    )
    return sorted((at - asked[source, external_id]).total_seconds() for source, external_id, at in rows)
