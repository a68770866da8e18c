"""A fake Feishu group bot: signature in the body, codes in the body, its rate answered with HTTP 400."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import ClassVar

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken


class FakeFeishuBot(FakeProvider):
    throttle_code = "11232"
    errors: ClassVar = {
        "19021": "bad_account",
        "19022": "bad_account",
        "19024": "bad_account",
        "11232": "throttled",
        "9499": "bad_message",
        "19001": "bad_message",
    }

    def __init__(self, hook: str, secret: str) -> None:
        super().__init__()
        self.hook, self.secret = hook, secret
        self.old_answers = False

    def handle(self, request: Recorded) -> Answer:
        if request.path != f"/open-apis/bot/v2/hook/{self.hook}":
            return self._error("19001")
        body = request.json()
        stamp = body.get("timestamp", "0")
        expected = base64.b64encode(hmac.new(f"{stamp}\n{self.secret}".encode(), b"", hashlib.sha256).digest()).decode()
        if abs(int(stamp) - time.time()) > 3600 or not hmac.compare_digest(expected, body.get("sign", "")):
            self.refused_signatures += 1
            return self._error("19021")
        if self.throttled():
            return Answer(400, {"code": 9499, "msg": "too many request", "data": {}})
        if code := self.error_for(""):
            return self._error(code)
        if len(request.body) > 20_480:
            return self._error("9499")
        text = json.dumps(body.get("card") or body["content"], ensure_ascii=False)
        self.taken.append(Taken(self.hook, str(self.new_id()), text))
        if self.old_answers:
            return Answer(body={"StatusCode": 0, "StatusMessage": "success"})
        return Answer(body={"code": 0, "msg": "success", "data": {}})

    def _error(self, code: str) -> Answer:
        return Answer(400 if code == "9499" else 200, {"code": int(code), "msg": f"refused {self.secret}"})
