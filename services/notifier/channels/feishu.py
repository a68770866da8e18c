"""Feishu / Lark: the group bot.

`code` (older answers: `StatusCode`) tells; the signature has key and message the other way round from DingTalk, and
seconds in the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

from services.notifier.channels.base import (
    Content,
    Driver,
    Kind,
    Message,
    Net,
    Options,
    Outcome,
    accepted,
    failed,
    quota,
)
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, clip, number, retry_after
from services.notifier.channels.signing import feishu_sign

BOT_RATE = timedelta(seconds=60)

BOT_CODES = Codes(
    {
        "19021": Kind.BAD_ACCOUNT,
        "19022": Kind.BAD_ACCOUNT,
        "19024": Kind.BAD_ACCOUNT,
        "11232": Kind.THROTTLED,
        "9499": Kind.BAD_MESSAGE,
        "19001": Kind.BAD_MESSAGE,
        "-1": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)


def card_of(content: Content, limit: int) -> dict[str, Any]:
    """An interactive card: title, text, and its link and buttons."""
    elements: list[dict[str, Any]] = [{"tag": "markdown", "content": clip(content.markdown or content.text, limit)}]
    actions: list[dict[str, Any]] = []
    if content.url:
        actions.append(
            {"tag": "button", "text": _plain(content.url_label or "打开"), "type": "primary", "url": content.url}
        )
    for button in content.buttons:
        target: dict[str, Any] = {"url": button.url} if button.url else {"value": {"value": button.value}}
        actions.append({"tag": "button", "text": _plain(button.label), **target})
    if actions:
        elements.append({"tag": "action", "actions": actions})
    card: dict[str, Any] = {"config": {"wide_screen_mode": True}, "elements": elements}
    if content.title:
        card["header"] = {"title": _plain(clip(content.title, 200))}
    return card


def _plain(text: str) -> dict[str, str]:
    return {"tag": "plain_text", "content": text}


class FeishuBotDriver(Driver):
    """One bot of one group. Secrets `hook` (the id in its URL) and `secret` (for signed bots)."""

    name = "feishu_bot"
    channel = "robot"
    max_bytes: ClassVar[int] = 20_000
    caps = (quota(100, "sender", minutes=1), quota(5, "sender", seconds=1))
    secrets = ("hook",)

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._endpoint = Endpoint(net.http, options.base_url or "https://open.feishu.cn", options.timeout_seconds)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        content = group[0].content
        body: dict[str, Any] = {}
        if secret := self.options.secrets.get("secret"):
            seconds = int(self.net.now().timestamp())
            body = {"timestamp": str(seconds), "sign": feishu_sign(seconds, secret)}
        if content.title or content.url or content.markdown:
            body |= {"msg_type": "interactive", "card": card_of(content, self.max_bytes - 4_000)}
        else:
            body |= {"msg_type": "text", "content": {"text": clip(content.text, self.max_bytes - 4_000)}}
        response = await self._endpoint.post(
            f"/open-apis/bot/v2/hook/{self.options.secret('hook')}", JSON_HEADERS, msgspec.json.encode(body)
        )
        return [self._outcome(response)]

    def _outcome(self, response: Response) -> Outcome:
        if response.status >= 500:
            return failed(Kind.TRANSIENT, response.status)
        if response.status == 429:
            return failed(Kind.THROTTLED, 429, "", retry_after(response, self.net.now(), BOT_RATE))
        answer = response.json()
        code = number(answer.get("code", answer.get("StatusCode")))
        if code == 0:
            return accepted()
        text = str(answer.get("msg", answer.get("StatusMessage", "")))
        kind = BOT_CODES.kind(str(code))
        if code == 9499 and "too many request" in text.lower():
            kind = Kind.THROTTLED
        return failed(kind, code, text, BOT_RATE if kind is Kind.THROTTLED else None)
