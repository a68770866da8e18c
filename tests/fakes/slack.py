"""Fakes of Slack incoming webhooks, Teams workflows and the retiring Teams connector."""

from __future__ import annotations

import json
from typing import ClassVar

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken

_SLACK_STATUS = {
    "no_service": 404,
    "channel_not_found": 404,
    "channel_is_archived": 410,
    "action_prohibited": 403,
    "invalid_token": 403,
    "rollup_error": 500,
    "429": 429,
}


class FakeSlack(FakeProvider):
    throttle_code = "429"
    errors: ClassVar = {
        "429": "throttled",
        "no_service": "bad_recipient",
        "channel_not_found": "bad_recipient",
        "channel_is_archived": "bad_recipient",
        "action_prohibited": "bad_account",
        "invalid_token": "bad_account",
        "invalid_payload": "bad_message",
        "no_text": "bad_message",
        "too_many_attachments": "bad_message",
        "rollup_error": "transient",
    }

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.hook = hook

    def handle(self, request: Recorded) -> Answer:
        if request.path != f"/services/{self.hook}":
            self.refused_signatures += 1
            return self._error("invalid_token")
        if self.throttled():
            return self._error("429")
        if code := self.error_for(""):
            return self._error(code)
        self.taken.append(Taken(self.hook, str(self.new_id()), json.dumps(request.json(), ensure_ascii=False)))
        return Answer(raw=b"ok")

    def _error(self, code: str) -> Answer:
        return Answer(_SLACK_STATUS.get(code, 400), raw=code.encode(), headers={"retry-after": "2"})


class FakeTeamsWorkflow(FakeProvider):
    throttle_code = "429"
    errors: ClassVar = {
        "429": "throttled",
        "400": "bad_message",
        "401": "bad_recipient",
        "404": "bad_recipient",
        "500": "transient",
    }

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def handle(self, request: Recorded) -> Answer:
        if f"{request.path}?{request.raw_query}" != self.path:
            self.refused_signatures += 1
            return Answer(401, {})
        if self.throttled():
            return Answer(429, {}, {"retry-after": "2"})
        if code := self.error_for(""):
            return Answer(int(code), {})
        self._keep(request)
        return Answer(202, raw=b"")

    def _keep(self, request: Recorded) -> None:
        card = request.json()["attachments"][0]["content"]
        self.taken.append(Taken(self.path, str(self.new_id()), json.dumps(card, ensure_ascii=False)))


class FakeTeamsConnector(FakeTeamsWorkflow):
    """Says 200 to everything; only the body `1` is success."""

    errors: ClassVar = {
        "429": "throttled",
        "413": "bad_message",
        "400": "bad_message",
        "404": "bad_recipient",
        "410": "bad_recipient",
        "500": "transient",
    }

    def handle(self, request: Recorded) -> Answer:
        if f"{request.path}?{request.raw_query}" != self.path:
            self.refused_signatures += 1
            return self._failed("404")
        if self.throttled():
            return self._failed("429")
        if code := self.error_for(""):
            return self._failed(code)
        self._keep(request)
        return Answer(raw=b"1")

    def _failed(self, code: str) -> Answer:
        text = f"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {code} with ContextId x"
        return Answer(raw=text.encode())
