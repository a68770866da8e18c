"""The playbook of fault runs: everybody has room, each ticket is announced in the app and by SMS, urgent ones also by mail."""

from __future__ import annotations

from pathlib import Path

import yaml

SMS_SECRET = ("SIGNALBOX_FAULTS_SECRET", "whsec_ZmF1bHRzIGFyZSB3aGF0IHdlIGxpdmUgd2l0aA==")
GROUPS = ("network", "desk")
MEMBERS = 6


def write(folder: Path, *, sms_url: str, smtp_url: str) -> Path:
    """Write it for these sinks; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    people = {f"{group}.{n}": group for group in GROUPS for n in range(MEMBERS)}
    document = {
        "name": "faults",
        "locale": "en",
        "sources": ["http", "stream", "dramatiq"],
        "triage": "desk",
        "taxonomy": {"priority": {"values": ["urgent", "normal"], "default": "normal"}},
        "lanes": {
            "urgent": {"when": {"text": {"contains": ["down"]}}, "priorities": ["urgent"]},
            "bulk": {"when": {"text": {"contains": ["account"]}}},
        },
        "rules": [
            {
                "name": "whose",
                "matches": "first",
                "rules": [
                    {
                        "name": "down",
                        "when": {"text": {"contains": ["down"]}},
                        "then": {"group": "network", "priority": "urgent"},
                    },
                    {"name": "rest", "default": True, "then": {"group": "desk", "priority": "normal"}},
                ],
            }
        ],
        "groups": {
            group: {"members": [name for name, home in people.items() if home == group], "lead": "boss", "strategy": "least_loaded"}
            for group in GROUPS
        },
        "agents": {
            "boss": {"name": "Boss", "roles": ["lead"], "contacts": {"email": "boss@faults.example", "phone": "+100"}},
            **{
                name: {
                    "name": name,
                    "manager": "boss",
                    "capacity": 1_000_000,
                    "contacts": {"email": f"{name}@faults.example", "phone": f"+1{number:03}"},
                }
                for number, name in enumerate(people, 1)
            },
        },
        "sla": [{"name": "all", "targets": {"first_response": "2h", "resolution": "24h"}, "warn": ["30m"]}],
        "chains": [{"name": "up", "steps": [{"targets": [{"manager": 1}]}], "fallback": "boss"}],
        "watch": [{"on": "unaccepted", "chain": "up", "after": "45m"}, {"on": "sla.breached", "chain": "up"}],
        "channels": [
            {"name": "inbox", "driver": "inbox"},
            {
                "name": "sms",
                "channel": "sms",
                "driver": "signed_http_sms",
                "base_url": f"{sms_url}/sms",
                "secrets": {"secret": {"env": SMS_SECRET[0]}},
                "allow": ["127.0.0.0/8"],
            },
            {
                "name": "mail",
                "channel": "mail",
                "driver": "smtp",
                "base_url": smtp_url,
                "settings": {"from_address": "desk@faults.example"},
                "allow": ["127.0.0.0/8"],
            },
        ],
        "messages": {
            "default_locale": "en",
            "rules": [
                {
                    "name": "assigned",
                    "on": ["ticket.assigned"],
                    "urgency": "urgent",
                    "on_unknown": "resend",
                    "audience": [{"to": ["assignee"]}],
                    "plan": [{"channel": "inbox"}, {"channel": "sms"}],
                    "templates": {"any": {"en": {"title": "{{ ticket.number }}", "text": "{{ ticket.number }} is yours."}}},
                },
                {
                    "name": "stands-still",
                    "on": ["ticket.assigned"],
                    "when": {"priority": "urgent"},
                    "on_unknown": "resend",
                    "audience": [{"to": ["manager:1"]}],
                    "plan": [{"channel": "mail"}],
                    "templates": {"any": {"en": {"title": "{{ ticket.number }}", "text": "{{ ticket.subject }}"}}},
                },
            ],
        },
    }  # fmt: skip
    (folder / "faults.yaml").write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return folder
