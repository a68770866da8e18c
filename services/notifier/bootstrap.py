"""Composition root of the notifier."""

from __future__ import annotations

from services.notifier.handlers import PlanMessages
from services.notifier.sender import ChannelSender, NullSender
from services.notifier.sending import SendMessages
from shared.ledger.process import Deps, Parts


def build(deps: Deps) -> Parts:
    """The service, ready to run: planning, and sending through the playbook's providers."""
    sender = ChannelSender(deps, deps.engine)
    sending = SendMessages(deps, sender, available=sender.available)
    return Parts(
        "notifier", handlers=(PlanMessages(deps), sending), loops=(sender.circuits,), background=(sender,), cap=300
    )


def build_silent(deps: Deps) -> Parts:
    """The same with a sender that accepts everything and calls nobody: replay, benchmarks."""
    return Parts("notifier", handlers=(PlanMessages(deps), SendMessages(deps, NullSender(deps, deps.engine))), cap=300)
