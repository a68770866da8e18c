"""Fake WeCom: the group robot and the application message with its duplicate check and its silent per-member cap."""

from __future__ import annotations

from typing import ClassVar

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken


class FakeWeComRobot(FakeProvider):
    throttle_code = "45009"
    errors: ClassVar = {
        "45009": "throttled",
        "93000": "bad_recipient",
        "44004": "bad_message",
        "40058": "bad_message",
        "-1": "transient",
    }

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def handle(self, request: Recorded) -> Answer:
        if request.query.get("key") != self.key:
            self.refused_signatures += 1
            return self._error("93000")
        if self.throttled():
            return self._error("45009")
        if code := self.error_for(""):
            return self._error(code)
        body = request.json()
        text = body[body["msgtype"]]["content"]
        if len(text.encode()) > (4096 if body["msgtype"] == "markdown" else 2048):
            return self._error("40058")
        self.taken.append(Taken(self.key, str(self.new_id()), text))
        return Answer(body={"errcode": 0, "errmsg": "ok"})

    def _error(self, code: str) -> Answer:
        return Answer(body={"errcode": int(code), "errmsg": f"refused {self.key}"})


class FakeWeComApp(FakeProvider):
    throttle_code = "45009"
    errors: ClassVar = {
        "81013": "bad_recipient",
        "40001": "bad_account",
        "60020": "bad_account",
        "45009": "throttled",
        "45033": "throttled",
        "-1": "transient",
    }

    def __init__(self, corp_id: str, corp_secret: str) -> None:
        super().__init__()
        self.corp_id, self.corp_secret = corp_id, corp_secret
        self.tokens: set[str] = set()
        self.token_calls = 0
        self.known_users: set[str] | None = None
        self.seen: dict[bytes, str] = {}
        self.per_member: dict[str, int] = {}
        self.dropped = 0

    def handle(self, request: Recorded) -> Answer:
        if request.path == "/cgi-bin/gettoken":
            return self._token(request)
        if request.query.get("access_token") not in self.tokens:
            return self._error("42001")
        if self.throttled():
            return self._error("45009")
        body = request.json()
        users = body["touser"].split("|")
        if code := self.error_for(users[0]):
            return self._error(code)
        if body.get("enable_duplicate_check") and request.body in self.seen:
            return Answer(body={"errcode": 0, "errmsg": "ok", "invaliduser": "", "msgid": self.seen[request.body]})
        return self._take(request, users, str(body[body["msgtype"]]))

    def _take(self, request: Recorded, users: list[str], text: str) -> Answer:
        valid = [user for user in users if self.known_users is None or user in self.known_users]
        if not valid:
            return self._error("81013")
        msgid = self.seen[request.body] = f"msg-{self.new_id()}"
        for user in valid:
            self.per_member[user] = self.per_member.get(user, 0) + 1
            if self.per_member[user] > 30:  # says ok and drops
                self.dropped += 1
            else:
                self.taken.append(Taken(user, msgid, text))
        invalid = "|".join(user.lower() for user in users if user not in valid)
        return Answer(
            body={
                "errcode": 0,
                "errmsg": "ok",
                "invaliduser": invalid,
                "invalidparty": "",
                "invalidtag": "",
                "msgid": msgid,
            }
        )

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def _token(self, request: Recorded) -> Answer:
        self.token_calls += 1
        query = request.query
        if (query.get("corpid"), query.get("corpsecret")) != (self.corp_id, self.corp_secret):
            self.refused_signatures += 1
            return self._error("40001")
        token = f"token-{self.new_id()}"
        self.tokens.add(token)
        return Answer(body={"errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": 7200})

    def _error(self, code: str) -> Answer:
        return Answer(body={"errcode": int(code), "errmsg": f"refused {self.corp_secret}"})
