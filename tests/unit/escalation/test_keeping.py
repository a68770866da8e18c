"""What is watched survives being stored, also where members of a chain's copy are left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.escalation import keeping
from services.escalation.domain.chain.state import Cause, ChainState, Status
from services.escalation.watched import Card, Expected, Share, Watched
from shared.playbook.escalation import Chain
from shared.playbook.types import decode, encode

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
CHAINS: list[dict[str, Any]] = [
    {"name": "short", "steps": [{"targets": [{"manager": 1}]}]},
    {
        "name": "long",
        "calendar": "office",
        "steps": [
            {
                "targets": [{"manager": 2, "copy": True}],
                "actions": ["urge", {"do": "reassign", "to": "g2"}],
                "after": "1h30m",
            },
            {
                "targets": [{"role": "lead"}],
                "before": "30m",
                "relative_to": "due",
                "on": "open",
                "needs_everyone": False,
            },
            {"targets": [{"schedule": "night"}, {"person": "boss"}], "allowed_hours": "office"},
        ],
        "repeat": {"every": "2h", "max": None},
        "acknowledge": {"expires": "45m"},
        "fallback": "boss",
        "exhausted_after": 0,
    },
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda one: str(one["name"]))
def test_a_running_chain_is_read_back_as_it_was_and_writes_no_member_that_says_nothing(chain: dict[str, Any]) -> None:
    running = ChainState(
        escalation=3, chain=decode(chain, Chain), cause=Cause(kind="sla.breached", stalled_at=AT, metric="resolution"),
        status=Status.ACTIVE, raised=True, step=1, due_at=AT + timedelta(minutes=5), everyone_told=("boss",),
    )  # fmt: skip
    state = Watched(
        expected=(Expected("unaccepted", AT, AT, 2, owner="ann", left=3.5),), chains=(running,),
        shares=(Share("ann", AT),), numbered=3,
        cards=(Card("main", 1, "assigned", "g", None, AT, None, True, False, 3, False),),
    )  # fmt: skip
    stored = keeping.dumps(state)
    assert keeping.loads(stored) == state
    assert keeping.dumps(state) == stored  # from what is remembered of the chain
    written = msgspec.json.decode(stored)["chains"][0]["chain"]
    assert len(msgspec.json.encode(written)) < 0.7 * len(encode(running.chain))


def test_a_state_that_an_earlier_version_wrote_is_read() -> None:
    """Written whole, with every member of the chain."""
    running = ChainState(
        escalation=-1, chain=decode(CHAINS[1], Chain), cause=Cause(kind="node", stalled_at=AT, node="look")
    )
    state = Watched(chains=(running,))
    assert keeping.loads(encode(state)) == state
