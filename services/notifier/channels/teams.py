"""Microsoft Teams: the workflow (202), and the connector that is being retired (200 with body `1`, and 200 with an error text).

| answer | outcome |
|---|---|
| workflow: 202, connector: 200 `1` | accepted |
| 429, or `HTTP error 429` in a 200 | throttled |
| 400, 413, or `HTTP error 413` in a 200 | bad_message |
| 401, 403, 404, or another `HTTP error 4xx` in a 200 | bad_recipient: the flow was removed |
| 5xx | transient |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

from services.notifier.channels.base import Content, Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import clip, retry_after

RATE = timedelta(seconds=1)
_ERROR = re.compile(rb"HTTP error (\d{3})")


class TeamsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`connector` for the old kind of URL."""

    connector: bool = False


class TeamsDriver(Driver):
    """One channel. `base_url` is the host of the URL, secret `path` its path and query."""

    name = "teams"
    channel = "robot"
    max_bytes: ClassVar[int] = 28_000
    secrets = ("path",)
    settings_type: ClassVar[type[msgspec.Struct]] = TeamsSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(TeamsSettings)
        self._endpoint = Endpoint(net.http, options.base_url, options.timeout_seconds)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        body = msgspec.json.encode(card_of(group[0].content, self.max_bytes - 4_000))
        response = await self._endpoint.post("/" + self.options.secret("path").lstrip("/"), JSON_HEADERS, body)
        return [self._outcome(response)]

    def _outcome(self, response: Response) -> Outcome:
        status = response.status
        if status == 200 and self._settings.connector:
            if response.body.strip() == b"1":
                return accepted()
            found = _ERROR.search(response.body)
            if found is None:
                return Outcome(Kind.UNKNOWN, code="200", detail="the answer is not 1")
            status = int(found.group(1))
        elif 200 <= status < 300:
            return accepted()
        if status == 429:
            return failed(Kind.THROTTLED, status, "", retry_after(response, self.net.now(), RATE))
        if status >= 500:
            return failed(Kind.TRANSIENT, status)
        return failed(Kind.BAD_MESSAGE if status in (400, 413) else Kind.BAD_RECIPIENT, status)


def card_of(content: Content, limit: int) -> dict[str, Any]:
    """A message with one adaptive card."""
    body: list[dict[str, Any]] = []
    if content.title:
        body.append({"type": "TextBlock", "text": clip(content.title, 500), "weight": "Bolder", "wrap": True})
    body.append({"type": "TextBlock", "text": clip(content.markdown or content.text, limit), "wrap": True})
    links = [(content.url_label or "Open", content.url)] if content.url else []
    links += [(button.label, button.url) for button in content.buttons if button.url]
    card: dict[str, Any] = {"type": "AdaptiveCard", "version": "1.4", "body": body}
    if links:
        card["actions"] = [{"type": "Action.OpenUrl", "title": label, "url": url} for label, url in links]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}
