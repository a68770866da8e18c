"""APNs over HTTP/2: one token shared by all streams, renewed between 20 and 60 minutes.

| answer | outcome |
|---|---|
| 200 | accepted, with the apns-id |
| 410 Unregistered, ExpiredToken; 400 BadDeviceToken, DeviceTokenNotForTopic | bad_recipient |
| 413; 400 PayloadEmpty, BadCollapseId, BadExpirationDate, BadPriority | bad_message |
| 403 ExpiredProviderToken | renewed and sent once more |
| other 403, TopicDisallowed, BadTopic, TooManyProviderTokenUpdates | bad_account |
| 429 TooManyRequests | capped_recipient for some minutes: it is about this device |
| 5xx, GOAWAY | transient |
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.http import Response, split_url
from services.notifier.channels.http2 import Http2Client
from services.notifier.channels.jwt import es256
from services.notifier.channels.replies import Codes, clip
from services.notifier.channels.web_push import private_key
from services.notifier.errors import BadReply

REASONS = Codes(
    {
        "Unregistered": Kind.BAD_RECIPIENT,
        "ExpiredToken": Kind.BAD_RECIPIENT,
        "BadDeviceToken": Kind.BAD_RECIPIENT,
        "DeviceTokenNotForTopic": Kind.BAD_RECIPIENT,
        "PayloadTooLarge": Kind.BAD_MESSAGE,
        "PayloadEmpty": Kind.BAD_MESSAGE,
        "BadCollapseId": Kind.BAD_MESSAGE,
        "BadExpirationDate": Kind.BAD_MESSAGE,
        "BadPriority": Kind.BAD_MESSAGE,
        "ExpiredProviderToken": Kind.BAD_ACCOUNT,
        "InvalidProviderToken": Kind.BAD_ACCOUNT,
        "MissingProviderToken": Kind.BAD_ACCOUNT,
        "Forbidden": Kind.BAD_ACCOUNT,
        "BadCertificate": Kind.BAD_ACCOUNT,
        "TopicDisallowed": Kind.BAD_ACCOUNT,
        "BadTopic": Kind.BAD_ACCOUNT,
        "TooManyProviderTokenUpdates": Kind.BAD_ACCOUNT,
        "TooManyRequests": Kind.CAPPED_RECIPIENT,
        "InternalServerError": Kind.TRANSIENT,
        "ServiceUnavailable": Kind.TRANSIENT,
        "Shutdown": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

DEVICE_PAUSE = timedelta(minutes=5)
TOKEN_LIFE = timedelta(minutes=50)
SOONEST_RENEWAL = timedelta(minutes=20)
_NAMESPACE = uuid.UUID("6e7f0c7e-6f0e-5d0a-9d6a-2f6c53676e61")
_LEVELS = {"urgent": "time-sensitive", "normal": "active", "bulk": "passive"}


class ApnsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Apple's ids of the key and the team, and the application's bundle id."""

    key_id: str
    team_id: str
    topic: str
    connections: int = 2


class ApnsDriver(Driver):
    """Secret `private_key`: the .p8 file's text. The address is the device's token in hex."""

    name = "apns"
    channel = "app"
    secrets = ("private_key",)
    settings_type: ClassVar[type[msgspec.Struct]] = ApnsSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(ApnsSettings)
        self._key = private_key(options.secret("private_key"))
        self._origin, _ = split_url(options.base_url or "https://api.push.apple.com")
        self._client: Http2Client | None = None
        self._token = ""
        self._issued_at: datetime | None = None

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        if not message.address.isalnum() or not message.address.isascii():
            return [failed(Kind.BAD_RECIPIENT, "address", "not a device token")]
        body = msgspec.json.encode(payload_of(message))
        response = await self._post(message, body)
        outcome = self._outcome(response)
        if outcome.code == "ExpiredProviderToken" and self._renew():
            outcome = self._outcome(await self._post(message, body))
        return [outcome]

    async def _post(self, message: Message, body: bytes) -> Response:
        if self._client is None:
            self._client = Http2Client(self._origin, connections=self._settings.connections)
        now = self.net.now()
        headers = [
            ("authorization", f"bearer {self._provider_token(now)}"),
            ("apns-topic", self._settings.topic),
            ("apns-push-type", "alert"),
            ("apns-priority", "5" if message.urgency == "bulk" else "10"),
            ("apns-id", str(uuid.uuid5(_NAMESPACE, message.message_id))),
            (
                "apns-expiration",
                str(int(message.valid_until.timestamp()))
                if message.valid_until
                else str(int(now.timestamp()) + 86_400),
            ),
        ]
        if message.thread:
            headers.append(("apns-collapse-id", clip(message.thread, 64)))
        return await self._client.post(f"/3/device/{message.address}", headers, body, self.options.timeout_seconds)

    def _provider_token(self, now: datetime) -> str:
        if self._issued_at is None or now - self._issued_at > TOKEN_LIFE:
            claims = {"iss": self._settings.team_id, "iat": int(now.timestamp())}
            self._token = es256(self._key, {"kid": self._settings.key_id}, claims)
            self._issued_at = now
        return self._token

    def _renew(self) -> bool:
        """Forget the token, unless it is younger than Apple lets it be renewed."""
        young = self._issued_at is not None and self.net.now() - self._issued_at < SOONEST_RENEWAL
        if not young:
            self._issued_at = None
        return not young

    def _outcome(self, response: Response) -> Outcome:
        if response.status == 200:
            return accepted(response.header(b"apns-id") or None)
        try:
            reason = str(response.json().get("reason", ""))
        except BadReply:
            reason = ""
        if not reason:
            kind = Kind.TRANSIENT if response.status >= 500 else Kind.UNKNOWN
            return failed(kind, response.status)
        kind = Kind.TRANSIENT if response.status >= 500 else REASONS.kind(reason)
        outcome = failed(kind, reason)
        if kind is Kind.CAPPED_RECIPIENT:
            return msgspec.structs.replace(outcome, until=self.net.now() + DEVICE_PAUSE)
        return outcome

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def payload_of(message: Message) -> dict[str, Any]:
    """An alert below 4,096 bytes, with the thread and the link for the application."""
    content = message.content
    aps: dict[str, Any] = {
        "alert": {"title": clip(content.title, 200), "body": clip(content.text, 2_500)},
        "sound": "default",
        "interruption-level": _LEVELS.get(message.urgency, "active"),
    }
    if message.thread:
        aps["thread-id"] = message.thread
    return {"aps": aps, "ticket": message.thread, "url": clip(content.url, 500), "id": message.message_id}
