"""A generated desk: the rules, groups and agents of the reference (bench/reference/peers/naive), written as a playbook of ours.

Every run makes the same desk and, from a seed, the same tickets. A ticket has the reference's fields; its text is eight words of
subject and sixty of body.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from services.control import publish
from services.gateway.intake import Intake, Submission
from shared.contracts.envelope import Actor
from shared.contracts.intake import TicketIn
from shared.ledger.process import Deps
from shared.playbook.model import Document, Playbook
from shared.playbook.types import decode

GROUPS, AGENTS_PER_GROUP, RULES = 10, 50, 100
PRODUCTS = [f"product{i}" for i in range(20)]
REGIONS = ["eu", "us", "apac", "latam", "mea"]
LANGUAGES = ["en", "de", "fr", "es", "ja", "pt"]
TIERS = ["free", "pro", "business", "enterprise"]
CHANNELS = ["email", "web", "chat", "api", "phone"]
# fmt: off
WORDS = [
    "refund", "invoice", "login", "password", "outage", "slow", "error", "crash", "upgrade", "cancel", "export", "import",
    "api", "token", "billing", "latency", "email", "sync", "mobile", "report",
]
# fmt: on
URGENT_WORD = "evacuation"
"""No ordinary ticket has it: `lanes` of the desk sees it in the text."""
SENDER = Actor(kind="automation", id="bench")
CHOICES = {"product": PRODUCTS, "region": REGIONS, "language": LANGUAGES, "tier": TIERS, "channel": CHANNELS}
FIELDS = {name: {"type": "choice", "values": values} for name, values in CHOICES.items()}


def rules(count: int = RULES, seed: int = 1) -> list[dict[str, Any]]:
    """The reference's rules, drawn in the same order from the same seed; the last is for everything else."""
    chance = random.Random(seed)
    found: list[dict[str, Any]] = []
    for index in range(count - 1):
        when: dict[str, Any] = {}
        for name, values in chance.sample(list(CHOICES.items()), chance.choice([2, 2, 3])):
            when[f"fields.{name}"] = chance.choice(values) if chance.random() < 0.6 else chance.sample(values, 2)
        if chance.random() < 0.3:
            low = chance.randrange(0, 9000)
            when["fields.amount"] = {"gte": low, "lt": low + 2000}
        if chance.random() < 0.4:
            when["subject"] = {"contains": [chance.choice(WORDS)]}
        found.append({"name": f"rule-{index}", "when": when, "then": {"group": f"g{chance.randrange(GROUPS)}"}})
    return [*found, {"name": "everything-else", "default": True, "then": {"group": "g0"}}]


def sections(
    *, capacity: int = 100_000, targets: Sequence[str] = ("4h", "8h", "48h"), watch: str = "8h", **more: Any
) -> dict[str, Any]:
    """The playbook's sections. `targets`: first response, periodic update, resolution; `more` replaces whole sections."""
    people = {
        f"a{number}": {
            "name": f"Agent {number}",
            "manager": f"lead{number % GROUPS}",
            "capacity": capacity,
            "contacts": {"email": f"a{number}@desk.example", "phone": f"+49301{number:06}"},
        }
        for number in range(GROUPS * AGENTS_PER_GROUP)
    }
    leads = {
        f"lead{g}": {
            "name": f"Lead {g}",
            "roles": ["agent", "lead"],
            "manager": "boss",
            "contacts": {"email": f"lead{g}@desk.example", "phone": f"+49302{g:06}"},
        }
        for g in range(GROUPS)
    }
    boss = {"boss": {"name": "Boss", "roles": ["lead"], "contacts": {"email": "boss@desk.example", "phone": "+49303"}}}
    words = {"any": {"en": {"title": "{{ ticket.number }}", "text": "{{ ticket.number }} {{ ticket.subject }}"}}}
    made: dict[str, Any] = {
        "sources": ["bench", "api"],
        "triage": "g0",
        "taxonomy": {"priority": {"values": ["urgent", "high", "normal", "low"], "default": "normal"}},
        "fields": FIELDS | {"customer": {"type": "number"}, "amount": {"type": "number"}},
        "lanes": {"urgent": {"when": {"text": {"contains": [URGENT_WORD]}}, "priorities": ["urgent"]}},
        "rules": [
            {"name": "how-bad", "matches": "first", "rules": [
                {"name": "text", "when": {"text": {"contains": [URGENT_WORD]}}, "then": {"priority": "urgent"}},
                {"name": "as-usual", "default": True},
            ]},
            {"name": "whose", "matches": "first", "rules": rules()},
        ],
        "groups": {
            f"g{g}": {
                "members": [f"a{n}" for n in range(g, GROUPS * AGENTS_PER_GROUP, GROUPS)],
                "lead": f"lead{g}",
                "strategy": "least_loaded",
            }
            for g in range(GROUPS)
        },
        "agents": people | leads | boss,
        "sla": [{
            "name": "everyone",
            "targets": dict(zip(("first_response", "periodic_update", "resolution"), targets, strict=True)),
            "warn": ["30m"],
        }],
        "chains": [{
            "name": "unmoved",
            "steps": [{"targets": [{"manager": 1}]}, {"after": "30m", "targets": [{"manager": 2}]}],
            "fallback": "boss",
        }],
        "watch": [
            {"on": "unaccepted", "chain": "unmoved", "after": watch},
            {"on": "sla.breached", "chain": "unmoved"},
        ],
        "channels": channels(9, 9),
        "messages": {"default_locale": "en", "rules": [{
            "name": "assigned",
            "on": ["ticket.assigned"],
            "audience": [{"to": ["assignee"]}],
            "plan": [{"channel": "mail"}, {"channel": "sms"}],
            "templates": words,
        }]},
    }  # fmt: skip
    return made | more


def channels(mail_port: int, http_port: int) -> list[dict[str, Any]]:
    """The desk's channels, their providers on these ports of this machine. Nobody is at port 9."""
    local = ["127.0.0.0/8"]
    return [
        {"name": "inbox", "driver": "inbox"},
        {"name": "mail", "channel": "mail", "driver": "smtp", "base_url": f"smtp://127.0.0.1:{mail_port}",
         "settings": {"from_address": "desk@desk.example"}, "allow": local},
        {"name": "sms", "channel": "sms", "driver": "webhook", "base_url": f"http://127.0.0.1:{http_port}/", "allow": local,
         "secrets": {"secret": {"env": "BENCH_SECRET"}}},
    ]  # fmt: skip


def apply(deps: Deps, **changes: Any) -> int:
    """Publish the desk; the version's number.

    Without `check`, which would refuse ten of the reference's rules: earlier ones cover them.
    """
    playbook = Playbook(0, decode({"name": "bench", **sections(**changes)}, Document), {})
    with deps.engine.connect() as connection:
        return publish.publish(deps, connection, playbook, by="bench").number


def ticket(chance: random.Random, *, text: str = "", **members: Any) -> TicketIn:
    """One ticket in the reference's shape; `text` goes in front of the body."""
    return TicketIn(
        subject=" ".join(chance.choices(WORDS, k=8)),
        body=f"{text} {' '.join(chance.choices(WORDS, k=60))}".strip(),
        source="bench",
        fields={name: chance.choice(values) for name, values in CHOICES.items()}
        | {"customer": chance.randrange(100_000), "amount": chance.randrange(10_000)},
        **members,
    )


def fill(deps: Deps, count: int, seed: int = 7, *, chunk: int = 1_000) -> list[int]:
    """Open so many tickets through the intake, as the batch call does; their ids."""
    chance, intake, ids = random.Random(seed), Intake(deps), list[int]()
    for start in range(0, count, chunk):
        batch = [Submission(ticket(chance), SENDER) for _ in range(min(chunk, count - start))]
        ids += [one.ticket.id for one in intake.open_many(batch) if one.ticket is not None]
    return ids
