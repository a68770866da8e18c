"""Composition root of the notifier."""

from __future__ import annotations

from sqlalchemy import Connection

from services.notifier import forgetting
from services.notifier.handlers import PlanMessages, compiled
from services.notifier.null_sender import NullSender
from services.notifier.reports import ApplyReports
from services.notifier.sender import ChannelSender
from services.notifier.sending import SendMessages
from services.notifier.topics import backlog
from services.notifier.topics.publisher import TopicPublisher
from services.notifier.topics.pump import PumpSubscriptions, WebhookSender
from shared.ledger.process import Deps, Parts


def build(deps: Deps) -> Parts:
    """The service, ready to run: planning, and sending through the playbook's providers."""
    sender = ChannelSender(deps, deps.engine)
    sending = SendMessages(deps, sender, notes=sender.notes)
    webhooks = WebhookSender(deps)
    topics = TopicPublisher(deps, on_moved=lambda connection, until: _rouse(deps, connection, until))
    return Parts(
        "notifier",
        handlers=(PlanMessages(deps, sending), sending, ApplyReports(deps), PumpSubscriptions(webhooks)),
        loops=(sender.circuits, forgetting.loop(deps.engine)),
        background=(sender, webhooks, topics),
        cap=300,
        warm=compiled,
    )


def _rouse(deps: Deps, connection: Connection, until: int) -> None:
    """Subscriptions that sleep behind the settled end of the log have work."""
    if backlog.rouse(connection, until):
        deps.bells.ring({("notifier", "normal")})


def build_silent(deps: Deps) -> Parts:
    """The same with a sender that accepts everything and calls nobody: replay, benchmarks."""
    sending = SendMessages(deps, NullSender(deps, deps.engine))
    return Parts(
        "notifier",
        handlers=(PlanMessages(deps, sending), sending, ApplyReports(deps)),
        cap=300,
        warm=compiled,
    )
