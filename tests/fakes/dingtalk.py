"""Fake DingTalk: the group robot (real 20-a-minute mute) and the work notice with its caps, dropped silently as the real
one does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import ClassVar

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken


class FakeDingTalkRobot(FakeProvider):
    throttle_code = "130101"
    errors: ClassVar = {
        "130101": "throttled",
        "410100": "throttled",
        "90030": "bad_account",
        "310000": "bad_account",
        "300001": "bad_recipient",
        "400101": "bad_recipient",
        "400102": "bad_recipient",
        "400013": "bad_recipient",
        "460101": "bad_message",
        "101002": "bad_message",
        "430101": "bad_message",
        "430104": "bad_message",
        "-1": "transient",
    }

    def __init__(self, token: str, secret: str) -> None:
        super().__init__()
        self.token, self.secret = token, secret

    def handle(self, request: Recorded) -> Answer:
        query = request.query
        if query.get("access_token") != self.token:
            return self._error("300001")
        stamp = query.get("timestamp", "0")
        expected = base64.b64encode(
            hmac.new(self.secret.encode(), f"{stamp}\n{self.secret}".encode(), hashlib.sha256).digest()
        ).decode()
        if abs(int(stamp) / 1000 - time.time()) > 3600 or not hmac.compare_digest(expected, query.get("sign", "")):
            self.refused_signatures += 1
            return self._error("310000")
        if self.throttled():
            return self._error("130101")
        if code := self.error_for(""):
            return self._error(code)
        if len(request.body) > 20_000:
            return self._error("460101")
        self.taken.append(Taken(self.token, str(self.new_id()), request.json()["markdown"]["text"]))
        return Answer(body={"errcode": 0, "errmsg": "ok"})

    def _error(self, code: str) -> Answer:
        return Answer(body={"errcode": int(code), "errmsg": f"refused {self.token} {self.secret}"})


class FakeDingTalkWork(FakeProvider):
    throttle_code = "143103"
    errors: ClassVar = {"143103": "throttled", "143104": "throttled", "40001": "bad_account", "-1": "transient"}

    def __init__(self, app_key: str, app_secret: str) -> None:
        super().__init__()
        self.app_key, self.app_secret = app_key, app_secret
        self.tokens: set[str] = set()
        self.token_calls = 0
        self.queries = 0
        self.busy = False  # what was accepted is not processed yet
        self.tasks: dict[str, dict[str, list[object]]] = {}
        self.known_users: set[str] | None = None
        self.failing: list[str] = []  # users of whom a notice each is taken and then fails
        self.texts: set[tuple[str, str]] = set()

    def handle(self, request: Recorded) -> Answer:
        if request.path == "/gettoken":
            return self._token(request)
        if request.query.get("access_token") not in self.tokens:
            return self._error("40014")
        if request.path.endswith("/getsendresult"):
            self.queries += 1
            result = {} if self.busy else self.tasks.get(str(request.json()["task_id"]))
            return Answer(body={"errcode": 0, "send_result": result or {}})
        if self.throttled():
            return self._error("143103")
        body = request.json()
        users = body["userid_list"].split(",")
        if code := self.error_for(users[0]):
            return self._error(code)
        if len(users) > 100:
            return self._error("34025")
        return self._take(users, str(body["msg"]))

    def _take(self, users: list[str], text: str) -> Answer:
        task = str(256271667526 + self.new_id())
        result: dict[str, list[object]] = {
            "read_user_id_list": [],
            "unread_user_id_list": [],
            "invalid_user_id_list": [],
            "forbidden_list": [],
        }
        for user in users:
            if self.known_users is not None and user not in self.known_users:
                result["invalid_user_id_list"].append(user)
            elif (user, text) in self.texts:
                result["forbidden_list"].append({"code": "143106", "count": 1, "userid": user})
            elif user in self.failing:
                self.failing.remove(user)
                self.texts.add((user, text))
                result.setdefault("failed_user_id_list", []).append(user)
            else:
                self.texts.add((user, text))
                result["unread_user_id_list"].append(user)
                self.taken.append(Taken(user, task, text))
        self.tasks[task] = result
        return Answer(body={"errcode": 0, "task_id": int(task), "request_id": "r"})

    def arrived(self, taken: Taken) -> None:
        """A notice has arrived once its task is processed."""
        self.busy = False

    def read(self, task: str, user: str) -> None:
        """The person opens the notice."""
        self.tasks[task]["unread_user_id_list"].remove(user)
        self.tasks[task]["read_user_id_list"].append(user)

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def _token(self, request: Recorded) -> Answer:
        self.token_calls += 1
        query = request.query
        if (query.get("appkey"), query.get("appsecret")) != (self.app_key, self.app_secret):
            self.refused_signatures += 1
            return self._error("40089")
        token = f"token-{self.new_id()}"
        self.tokens.add(token)
        return Answer(body={"errcode": 0, "access_token": token, "expires_in": 7200})

    def _error(self, code: str) -> Answer:
        return Answer(body={"errcode": int(code), "errmsg": f"refused {self.app_secret}"})
