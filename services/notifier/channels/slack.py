"""Slack incoming webhooks: plain text tells what went wrong; 1 message a second a channel."""

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
from services.notifier.channels.replies import Codes, clip, retry_after

CODES = Codes(
    {
        "no_service": Kind.BAD_RECIPIENT,
        "channel_not_found": Kind.BAD_RECIPIENT,
        "channel_is_archived": Kind.BAD_RECIPIENT,
        "action_prohibited": Kind.BAD_ACCOUNT,
        "invalid_token": Kind.BAD_ACCOUNT,
        "invalid_payload": Kind.BAD_MESSAGE,
        "no_text": Kind.BAD_MESSAGE,
        "too_many_attachments": Kind.BAD_MESSAGE,
        "rollup_error": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

RATE = timedelta(seconds=1)
_BY_STATUS = {403: Kind.BAD_ACCOUNT, 404: Kind.BAD_RECIPIENT, 410: Kind.BAD_RECIPIENT}


class SlackWebhookDriver(Driver):
    """One channel. Secret `hook`: the `T…/B…/X…` of its URL."""

    name = "slack"
    channel = "robot"
    max_bytes: ClassVar[int] = 3_000
    caps = (quota(60, "sender", minutes=1),)
    secrets = ("hook",)

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._endpoint = Endpoint(net.http, options.base_url or "https://hooks.slack.com", options.timeout_seconds)
        self._path = f"/services/{options.secret('hook')}"

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        body = msgspec.json.encode(payload_of(group[0].content, self.max_bytes))
        response = await self._endpoint.post(self._path, JSON_HEADERS, body)
        return [self._outcome(response)]

    def _outcome(self, response: Response) -> Outcome:
        text = response.body[:100].decode("utf-8", "replace").strip()
        if response.status == 200:
            return accepted() if text == "ok" else Outcome(Kind.UNKNOWN, code="200", detail="the answer is not ok")
        if response.status == 429:
            return failed(Kind.THROTTLED, 429, "", retry_after(response, self.net.now(), RATE))
        if response.status >= 500:
            return failed(Kind.TRANSIENT, text[:40] or response.status)
        known = _BY_STATUS.get(response.status)
        return failed(known or CODES.kind(text), text[:40] or response.status)


def payload_of(content: Content, limit: int) -> dict[str, Any]:
    """Text for notifications, and blocks: a section and its buttons. `&`, `<` and `>` are Slack's only special
    characters.
    """
    text = clip(_escape(content.markdown or content.text), limit)
    title = _escape(content.title)
    section = f"*{title}*\n{text}" if title else text
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": clip(section, limit)}}]
    elements: list[dict[str, Any]] = []
    if content.url:
        elements.append(_button(content.url_label or "Open", url=content.url))
    elements += [_button(button.label, url=button.url, value=button.value) for button in content.buttons]
    if elements:
        blocks.append({"type": "actions", "elements": elements})
    return {"text": clip(title or text, 500), "blocks": blocks}


def _button(label: str, url: str = "", value: str = "") -> dict[str, Any]:
    target = {"url": url} if url else {"value": value}
    return {"type": "button", "text": {"type": "plain_text", "text": clip(label, 75)}, **target}


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
