"""A fake of the generic signed-HTTP SMS interface: verifies, folds repeated ids, answers per message, sends signed
receipts.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, ClassVar

import standardwebhooks

from tests.fakes.server import Answer, FakeProvider, ReceiptRequest, Recorded, Taken

_STATUS = {
    "401": "bad_account",
    "403": "bad_account",
    "400": "bad_message",
    "413": "bad_message",
    "422": "bad_message",
    "500": "transient",
    "503": "transient",
}


class FakeSignedHttpSms(FakeProvider):
    throttle_code = "throttled"
    errors: ClassVar = {
        "throttled": "throttled",
        "transient": "transient",
        "unknown": "unknown",
        "bad_recipient": "bad_recipient",
        "capped_recipient": "capped_recipient",
        "bad_message": "bad_message",
        "bad_account": "bad_account",
        **_STATUS,
    }

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret
        self.verifier = standardwebhooks.Webhook(secret)
        self.results: dict[str, dict[str, Any]] = {}

    def handle(self, request: Recorded) -> Answer:
        try:
            self.verifier.verify(request.body, dict(request.headers), json_parse=False)
        except standardwebhooks.WebhookVerificationError:
            self.refused_signatures += 1
            return Answer(401, {})
        if request.method == "GET":
            found = self.results.get(request.path.rpartition("/")[2])
            return Answer(200, found) if found else Answer(404, {})
        if self.throttled():
            return Answer(429, {}, {"retry-after": "3"})
        if self.next_errors and self.next_errors[0] in _STATUS:
            return Answer(int(self.next_errors.popleft()), {})
        messages = request.json()["messages"]
        if len(messages) > 100:
            return Answer(413, {})
        return Answer(200, {"results": [self._take(message) for message in messages]})

    def _take(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["id"] in self.results:
            return self.results[message["id"]]
        if code := self.error_for(message["to"]):
            return {"id": message["id"], "status": code, "code": "E1", "detail": f"refused {self.secret}", "after": 60}
        provider_id = f"sms-{self.new_id()}"
        self.taken.append(Taken(message["to"], provider_id, message.get("text", ""), message["id"]))
        result = self.results[message["id"]] = {"id": message["id"], "status": "accepted", "provider_id": provider_id}
        return result

    def receipt(self, taken: Taken, state: str, at: datetime, *, forged: bool = False) -> ReceiptRequest:
        body = json.dumps(
            {
                "receipts": [
                    {
                        "provider_id": taken.provider_id,
                        "id": taken.message_id,
                        "address": taken.address,
                        "state": state,
                        "at": at.isoformat(),
                    }
                ]
            }
        ).encode()
        verifier = standardwebhooks.Webhook("whsec_" + "QUJD" * 8) if forged else self.verifier
        headers = {"webhook-id": f"r-{self.new_id()}", "webhook-timestamp": str(int(at.timestamp()))}
        headers["webhook-signature"] = verifier.sign(headers["webhook-id"], at, body.decode())
        return ReceiptRequest("", headers, body)
