"""Outgoing webhooks by Standard Webhooks; the address of a message is the target URL, `content.payload` the exact body.

| answer | outcome |
|---|---|
| 2xx | accepted |
| 410 | bad_recipient: the endpoint is disabled |
| 429, 502, 503, 504 | throttled, by Retry-After |
| 3xx (never followed) and all others | transient, up to the end of the schedule |
| none after the request was written | unknown; the receiver de-duplicates by `webhook-id`, so it is safe to send again |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar

import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.guard import Guard
from services.notifier.channels.http import Response, split_url
from services.notifier.channels.replies import retry_after
from services.notifier.errors import ConfigError
from shared.contracts.providers import standard

BUSY = timedelta(seconds=30)


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`https_only` refuses plain http targets, save those of the allow list's networks are still checked by address."""

    https_only: bool = False
    content_type: str = "application/json"
    user_agent: str = "signalbox"


class WebhookDriver(Driver):
    """Secret `secret` (whsec_…), and `previous` during a rotation; a subscription's own secrets come with `deliver`."""

    name = "webhook"
    channel = "webhook"
    has_idempotency = True
    settings_type: ClassVar[type[msgspec.Struct]] = WebhookSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = settings = options.read(WebhookSettings)
        try:
            self._guard = Guard(options.allow)
        except ValueError as error:
            raise ConfigError(f"provider {options.name}: allow: {error}") from error
        self._headers = [("content-type", settings.content_type), ("user-agent", settings.user_agent)]
        self._secrets = tuple(options.secrets[name] for name in ("secret", "previous") if name in options.secrets)

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        body = message.content.payload or _body(message)
        return [await self.deliver(message.address, message.message_id, body, self._secrets)]

    async def deliver(
        self, url: str, message_id: str, body: bytes, secrets: Sequence[str], headers: Mapping[str, str] | None = None
    ) -> Outcome:
        """One attempt at one endpoint, signed with every given secret, the new one first."""
        try:
            origin, path = split_url(url)
        except ConfigError as error:
            return failed(Kind.BAD_RECIPIENT, "url", str(error))
        if self._settings.https_only and not origin.tls:
            return failed(Kind.BAD_RECIPIENT, "url", "only https targets are allowed")
        if not secrets:
            return failed(Kind.BAD_ACCOUNT, "secret", "the endpoint has no secret")
        pinned = await self._guard.pin(origin)
        now = self.net.now()
        lines = [
            *self._headers,
            *standard.headers(secrets, message_id, int(now.timestamp()), body),
            *(headers or {}).items(),
        ]
        response = await self.net.http.request(pinned, "POST", path, lines, body, self.options.timeout_seconds)
        return self._outcome(response, message_id)

    def _outcome(self, response: Response, message_id: str) -> Outcome:
        status = response.status
        if 200 <= status < 300:
            return accepted(message_id)
        if status == 410:
            return failed(Kind.BAD_RECIPIENT, status, "the endpoint is gone")
        if status in (429, 502, 503, 504):
            return failed(Kind.THROTTLED, status, "", retry_after(response, self.net.now(), BUSY))
        return failed(Kind.TRANSIENT, status)  # the body is never echoed


def _body(message: Message) -> bytes:
    """A rule's message as JSON, where there is no ready-made payload."""
    content = message.content
    told = {
        "id": message.message_id,
        "title": content.title,
        "text": content.text or content.markdown,
        "url": content.url,
    }
    return msgspec.json.encode(told | {"thread": message.thread})
