"""The in-app inbox: there is nobody to call. The row that the sender commits is the message; SSE reads it from there."""

from __future__ import annotations

from collections.abc import Sequence

from services.notifier.channels.base import Driver, Message, Outcome, ReceiptMode, accepted


class InboxDriver(Driver):
    """Accepts everything; the provider id is the message id, and the application reports `read`."""

    name = "inbox"
    channel = "inbox"
    batch_size = 1000
    has_idempotency = True
    receipts = ReceiptMode.PUSH

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        return [accepted(message.message_id) for message in group]

    async def send(self, batch: Sequence[Message]) -> list[Outcome]:
        return [accepted(message.message_id) for message in batch]
