"""A fake webhook receiver: verifies Standard Webhooks by the reference library and de-duplicates by `webhook-id`."""

from __future__ import annotations

from typing import ClassVar

import standardwebhooks

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken


class FakeWebhookReceiver(FakeProvider):
    throttle_code = "429"
    errors: ClassVar = {
        "400": "transient",
        "404": "transient",
        "301": "transient",
        "308": "transient",
        "410": "bad_recipient",
        "429": "throttled",
        "500": "transient",
        "502": "throttled",
        "503": "throttled",
        "504": "throttled",
    }

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.verifier = standardwebhooks.Webhook(secret)
        self.repeats = 0

    def handle(self, request: Recorded) -> Answer:
        try:
            self.verifier.verify(request.body, dict(request.headers))
        except standardwebhooks.WebhookVerificationError:
            self.refused_signatures += 1
            return Answer(401, {})
        if self.throttled():
            return Answer(429, {}, {"retry-after": "7"})
        if code := self.error_for(request.path):
            return Answer(int(code), {}, {"location": "http://127.0.0.1:1/elsewhere"})
        message_id = request.headers["webhook-id"]
        if any(taken.message_id == message_id for taken in self.taken):
            self.repeats += 1
        else:
            self.taken.append(Taken(request.path, message_id, request.body.decode(), message_id))
        return Answer(200, {"ok": True})
