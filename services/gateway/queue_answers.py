"""What the intake queues answer with: confirmations and rejects, on streams that any producer can read."""

from __future__ import annotations

import redis

from services.gateway.intake import Answer, Submission
from shared.contracts.envelope import Actor
from shared.contracts.strict import Fault
from shared.runtime import metrics

ACCEPTED = "signalbox:intake:accepted"
REJECTED = "signalbox:intake:rejected"
KEPT = 1_000_000
"""Entries kept of the confirmations and rejects (approximately)."""
ORIGINAL_BYTES = 65_536
ACTOR = Actor(kind="automation", id="intake")
QUEUES = 0
"""In place of a key's id, for the idempotency of what comes by queue."""


def verdict(answer: Answer) -> Fault | None:
    """Why a submission is rejected; None when it was taken."""
    if answer.fault is not None:
        return answer.fault
    return Fault("/external_id", "came with another body before") if answer.conflict else None


def confirm(client: redis.client.Pipeline, submission: Submission, answer: Answer) -> None:
    """Add to a pipeline: this ticket is committed."""
    assert answer.ticket is not None
    ticket = submission.ticket
    entry = {"source": ticket.source, "external_id": ticket.external_id or "", "id": str(answer.ticket.id)}
    client.xadd(ACCEPTED, entry, maxlen=KEPT, approximate=True)  # type: ignore[arg-type]


def reject(client: redis.client.Pipeline, fault: Fault, original: bytes) -> None:
    """Add to a pipeline: this is no ticket, and why."""
    metrics.TICKETS.labels("other", "rejected").inc()
    entry = {"reason": f"{fault.pointer or '/'}: {fault.reason}", "original": original[:ORIGINAL_BYTES]}
    client.xadd(REJECTED, entry, maxlen=KEPT, approximate=True)  # type: ignore[arg-type]
