"""A fake Feishu application: tenant tokens, `uuid` folds repeats, its rate with `x-ogw-ratelimit-reset`."""

from __future__ import annotations

from typing import ClassVar

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken


class FakeFeishuApp(FakeProvider):
    throttle_code = "99991400"
    errors: ClassVar = {
        "99991400": "throttled",
        "230020": "throttled",
        "230002": "bad_recipient",
        "230013": "bad_recipient",
        "230001": "bad_message",
    }

    def __init__(self, app_id: str, app_secret: str) -> None:
        super().__init__()
        self.app_id, self.app_secret = app_id, app_secret
        self.tokens: set[str] = set()
        self.token_calls = 0
        self.seen: dict[str, str] = {}

    def handle(self, request: Recorded) -> Answer:
        if request.path.endswith("/tenant_access_token/internal"):
            return self._token(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self._error("99991663")
        if self.throttled():
            return self._error("99991400")
        body = request.json()
        if code := self.error_for(body["receive_id"]):
            return self._error(code)
        if body["uuid"] not in self.seen:
            self.seen[body["uuid"]] = f"om_{self.new_id()}"
            self.taken.append(Taken(body["receive_id"], self.seen[body["uuid"]], body["content"], body["uuid"]))
        return Answer(body={"code": 0, "msg": "success", "data": {"message_id": self.seen[body["uuid"]]}})

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def _token(self, request: Recorded) -> Answer:
        self.token_calls += 1
        if request.json() != {"app_id": self.app_id, "app_secret": self.app_secret}:
            self.refused_signatures += 1
            return self._error("10014")
        token = f"t-{self.new_id()}"
        self.tokens.add(token)
        return Answer(body={"code": 0, "tenant_access_token": token, "expire": 7200})

    def _error(self, code: str) -> Answer:
        status = 429 if code == "99991400" else 400
        return Answer(status, {"code": int(code), "msg": f"refused {self.app_secret}"}, {"x-ogw-ratelimit-reset": "9"})
