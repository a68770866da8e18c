"""DingTalk: the group robot and the work notice to a person.

Everything is HTTP 200; `errcode` tells. A work notice over the caps (500 a day a user, the same text once a day)
still says ok and is dropped: the sender counts, and each text carries a mark of its message, another one when it is sent again
after the provider said that it failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import msgspec

from services.notifier.channels.base import (
    Content,
    Driver,
    Kind,
    Message,
    Net,
    Options,
    Outcome,
    ReceiptMode,
    accepted,
    chunks,
    failed,
    quota,
    receipt_of,
)
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, clip, gateway_trouble, next_midnight, number
from services.notifier.channels.signing import dingtalk_sign
from services.notifier.channels.tokens import Token, TokenCache
from services.notifier.errors import BadReply, NoAnswer, TokenRefused
from shared.contracts.providers.receipts import Receipt, ReceiptState

MUTED_FOR = timedelta(minutes=10)  # a robot over its 20 a minute is muted so long
NOTICE_RATE = timedelta(minutes=1)

ROBOT_CODES = Codes(
    {
        "130101": Kind.THROTTLED,
        "410100": Kind.THROTTLED,
        "90030": Kind.BAD_ACCOUNT,
        "310000": Kind.BAD_ACCOUNT,
        "300001": Kind.BAD_RECIPIENT,
        "400101": Kind.BAD_RECIPIENT,
        "400102": Kind.BAD_RECIPIENT,
        "400013": Kind.BAD_RECIPIENT,
        "460101": Kind.BAD_MESSAGE,
        "101002": Kind.BAD_MESSAGE,
        "43010*": Kind.BAD_MESSAGE,
        "-1": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

NOTICE_CODES = Codes(
    {
        "143103": Kind.THROTTLED,
        "143104": Kind.THROTTLED,
        "90018": Kind.THROTTLED,
        "40014": Kind.BAD_ACCOUNT,
        "42001": Kind.BAD_ACCOUNT,
        "40001": Kind.BAD_ACCOUNT,
        "88": Kind.BAD_ACCOUNT,
        "33012": Kind.BAD_RECIPIENT,
        "-1": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

_STALE_TOKEN = ("40014", "42001")
_CAPPED = ("143105", "143106")


def markdown_of(content: Content) -> str:
    """Markdown with the link at its end."""
    text = content.markdown or content.text
    return f"{text}\n\n[{content.url_label or content.url}]({content.url})" if content.url else text


class DingTalkRobotDriver(Driver):
    """One robot of one group. Secrets `token` (of its URL) and `secret` (SEC…, for signed robots)."""

    name = "dingtalk_robot"
    channel = "robot"
    max_bytes: ClassVar[int] = 20_000
    caps = (quota(20, "sender", minutes=1),)
    secrets = ("token",)

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._endpoint = Endpoint(net.http, options.base_url or "https://oapi.dingtalk.com", options.timeout_seconds)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        content = group[0].content
        mentions = [name for name in content.mentions if name != "@all"]
        text = markdown_of(content) + "".join(f" @{name}" for name in mentions)
        body = msgspec.json.encode(
            {
                "msgtype": "markdown",
                "markdown": {"title": clip(content.title, 200), "text": clip(text, self.max_bytes - 2_000)},
                "at": {
                    "atMobiles": [name for name in mentions if name.isdecimal()],
                    "atUserIds": [name for name in mentions if not name.isdecimal()],
                    "isAtAll": "@all" in content.mentions,
                },
            }
        )
        response = await self._endpoint.post(self._path(), JSON_HEADERS, body)
        return [self._outcome(response)]

    def _path(self) -> str:
        path = f"/robot/send?access_token={quote(self.options.secret('token'), safe='')}"
        if secret := self.options.secrets.get("secret"):
            milliseconds = int(self.net.now().timestamp() * 1000)
            path += f"&timestamp={milliseconds}&sign={quote(dingtalk_sign(milliseconds, secret), safe='')}"
        return path

    def _outcome(self, response: Response) -> Outcome:
        if trouble := gateway_trouble(response, self.net.now()):
            return trouble
        answer = response.json()
        code = number(answer.get("errcode"))
        if code == 0:
            return accepted()
        kind = ROBOT_CODES.kind(str(code))
        return failed(kind, code, str(answer.get("errmsg", "")), MUTED_FOR if kind is Kind.THROTTLED else None)


class WorkNoticeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The application that speaks."""

    agent_id: int


class DingTalkWorkNoticeDriver(Driver):
    """A notice to people by user id, up to 100 for one text. Secrets `app_key` and `app_secret`."""

    name = "dingtalk_work"
    channel = "chat"
    batch_size = 100
    has_lookup = True
    receipts = ReceiptMode.POLL
    tells_read = True
    caps = (quota(500, "recipient", days=1),)
    secrets = ("app_key", "app_secret")
    settings_type: ClassVar[type[msgspec.Struct]] = WorkNoticeSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(WorkNoticeSettings)
        self._endpoint = Endpoint(net.http, options.base_url or "https://oapi.dingtalk.com", options.timeout_seconds)
        self._token = TokenCache(self._fetch_token, net.now)

    def groups(self, batch: Sequence[Message]) -> list[list[Message]]:
        return chunks(batch, self.batch_size, lambda message: (message.urgency, msgspec.json.encode(message.content)))

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        body = {
            "agent_id": self._settings.agent_id,
            "userid_list": ",".join([message.address for message in group]),
            "to_all_user": False,
            "msg": _notice(group[0]),
        }
        answer = await self._ask("asyncsend_v2", body)
        if isinstance(answer, Outcome):
            return [answer] * len(group)
        return [accepted(str(answer.get("task_id", "")) or None)] * len(group)

    async def lookup(self, message: Message) -> Outcome | None:
        """How far a notice came, by its task id (kept 24 hours); `unknown` without one, for the provider has no other
        key.
        """
        if not message.provider_id or not message.provider_id.isdecimal():
            return failed(Kind.UNKNOWN, "lookup", "no task id")
        try:
            answer = await self._ask(
                "getsendresult", {"agent_id": self._settings.agent_id, "task_id": int(message.provider_id)}
            )
        except (NoAnswer, BadReply, TokenRefused) as error:
            return failed(Kind.UNKNOWN, "lookup", str(error))
        if isinstance(answer, Outcome):
            return answer
        return self._fate(message, answer.get("send_result") or {})

    async def poll(self, messages: Sequence[Message]) -> list[Receipt]:
        """One query a task, whatever number of people it went to."""
        tasks: dict[str, list[Message]] = {}
        for message in messages:
            if message.provider_id is not None and message.provider_id.isdecimal():
                tasks.setdefault(message.provider_id, []).append(message)
        found = []
        for task, theirs in tasks.items():
            answer = await self._ask("getsendresult", {"agent_id": self._settings.agent_id, "task_id": int(task)})
            if isinstance(answer, Outcome):
                continue  # the query was refused: nothing is known of the message
            result = answer.get("send_result") or {}
            found += [receipt for one in theirs if (receipt := receipt_of(one, self._fate(one, result))) is not None]
        return found

    def _fate(self, message: Message, result: dict[str, Any]) -> Outcome:
        user = message.address
        for entry in result.get("forbidden_list") or []:
            if entry.get("userid") == user and str(entry.get("code")) in _CAPPED:
                capped = failed(Kind.CAPPED_RECIPIENT, entry.get("code"), "dropped by the provider's cap")
                return msgspec.structs.replace(capped, until=next_midnight(self.net.now()))
        if user in (result.get("read_user_id_list") or []):
            return accepted(message.provider_id, ReceiptState.READ)
        if user in (result.get("unread_user_id_list") or []):
            return accepted(message.provider_id, ReceiptState.DELIVERED)
        if user in (result.get("invalid_user_id_list") or []):
            return failed(Kind.BAD_RECIPIENT, "invalid_user", "the user does not exist")
        if user in (result.get("forbidden_user_id_list") or []):
            return failed(Kind.CAPPED_RECIPIENT, "forbidden_user", "dropped by the provider")
        if user in (result.get("failed_user_id_list") or []):
            return failed(Kind.TRANSIENT, "failed_user", "the provider failed to deliver")
        return accepted(message.provider_id)  # not processed yet

    async def _ask(self, verb: str, body: dict[str, Any]) -> dict[str, Any] | Outcome:
        data = msgspec.json.encode(body)
        outcome = await self._once(verb, data)
        if isinstance(outcome, Outcome) and outcome.code in _STALE_TOKEN:  # renewed once, and only once
            outcome = await self._once(verb, data)
        return outcome

    async def _once(self, verb: str, data: bytes) -> dict[str, Any] | Outcome:
        token = await self._token.get()
        path = f"/topapi/message/corpconversation/{verb}?access_token={quote(token, safe='')}"
        response = await self._endpoint.post(path, JSON_HEADERS, data)
        if trouble := gateway_trouble(response, self.net.now()):
            return trouble
        answer = response.json()
        code = str(number(answer.get("errcode")))
        if code == "0":
            return answer
        if code in _STALE_TOKEN:
            self._token.discard(token)
        text = str(answer.get("sub_msg") or answer.get("errmsg", ""))
        kind = NOTICE_CODES.kind(code)
        if (
            code == "88"
        ):  # a wrapper: the sub code tells; those that name the call's rate are limits, the rest the account
            sub = str(answer.get("sub_code", ""))
            kind = (
                Kind.THROTTLED
                if sub.startswith("90") or "limit" in sub.lower()
                else NOTICE_CODES.kind(sub)
                if sub
                else kind
            )
        return failed(kind, code, text, NOTICE_RATE if kind is Kind.THROTTLED else None)

    async def _fetch_token(self) -> Token:
        query = urlencode({"appkey": self.options.secret("app_key"), "appsecret": self.options.secret("app_secret")})
        response = await self._endpoint.get(f"/gettoken?{query}")
        answer = response.json()
        if number(answer.get("errcode")) != 0:
            raise TokenRefused(str(answer.get("errcode")), str(answer.get("errmsg", "")))
        return Token(str(answer["access_token"]), timedelta(seconds=number(answer.get("expires_in", 7200))))


def _notice(message: Message) -> dict[str, Any]:
    """The same text reaches a user once a day only, so each carries a short mark of its message. Buttons are links."""
    content = message.content
    mark = message.message_id[-8:] + ("+" if message.provider_id else "")
    text = clip(content.markdown or content.text, 900) + f"\n\n#{mark}"
    links = [{"title": clip(button.label, 20), "action_url": button.url} for button in content.buttons if button.url][
        :5
    ]
    if not content.url and not links:
        return {"msgtype": "markdown", "markdown": {"title": clip(content.title, 60), "text": text}}
    card: dict[str, Any] = {"title": clip(content.title, 60), "markdown": text}
    if links:
        opened = [{"title": content.url_label or "打开", "action_url": content.url}] if content.url else []
        card |= {"btn_orientation": "1", "btn_json_list": opened + links}
    else:
        card |= {"single_title": content.url_label or "打开", "single_url": content.url}
    return {"msgtype": "action_card", "action_card": card}
