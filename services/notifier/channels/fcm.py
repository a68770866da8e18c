"""FCM HTTP v1 over HTTP/2: one request a device, Google's access token fetched with a signed assertion and cached.

| errorCode (HTTP) | outcome |
|---|---|
| UNREGISTERED, SENDER_ID_MISMATCH | bad_recipient |
| INVALID_ARGUMENT | bad_message, or bad_recipient when it is about the registration token |
| QUOTA_EXCEEDED, 429 | throttled, by Retry-After, else 60 s |
| UNAVAILABLE, INTERNAL, 5xx | transient, by Retry-After |
| THIRD_PARTY_AUTH_ERROR, UNAUTHENTICATED | bad_account, after one renewal of the token |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.http import FORM_HEADERS, Response, split_url
from services.notifier.channels.http2 import Http2Client
from services.notifier.channels.jwt import rs256
from services.notifier.channels.replies import clip, retry_after
from services.notifier.channels.tokens import Token, TokenCache
from services.notifier.errors import BadReply, ConfigError, TokenRefused

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
QUOTA = timedelta(seconds=60)
SOON = timedelta(seconds=1)

_KINDS = {
    "UNREGISTERED": Kind.BAD_RECIPIENT,
    "SENDER_ID_MISMATCH": Kind.BAD_RECIPIENT,
    "INVALID_ARGUMENT": Kind.BAD_MESSAGE,
    "QUOTA_EXCEEDED": Kind.THROTTLED,
    "RESOURCE_EXHAUSTED": Kind.THROTTLED,
    "UNAVAILABLE": Kind.TRANSIENT,
    "INTERNAL": Kind.TRANSIENT,
    "THIRD_PARTY_AUTH_ERROR": Kind.BAD_ACCOUNT,
    "UNAUTHENTICATED": Kind.BAD_ACCOUNT,
    "PERMISSION_DENIED": Kind.BAD_ACCOUNT,
}


class Account(msgspec.Struct, frozen=True):
    """What is read of a service account file."""

    client_email: str
    private_key: str
    project_id: str
    token_uri: str = "https://oauth2.googleapis.com/token"


class FcmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`token_url` overrides that of the account file; `connections` is how many HTTP/2 connections are kept."""

    token_url: str = ""
    connections: int = 2


class FcmDriver(Driver):
    """Secret `service_account`: the JSON of a service account. The address is the device's registration token."""

    name = "fcm"
    channel = "app"
    secrets = ("service_account",)
    settings_type: ClassVar[type[msgspec.Struct]] = FcmSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(FcmSettings)
        try:
            self._account = msgspec.json.decode(options.secret("service_account"), type=Account)
            key = serialization.load_pem_private_key(self._account.private_key.encode(), None)
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigError(f"provider {options.name}: service_account: {type(error).__name__}") from error
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ConfigError(f"provider {options.name}: service_account: not an RSA key")
        self._key = key
        self._hidden = (*self._hidden, self._account.private_key)
        self._origin, _ = split_url(options.base_url or "https://fcm.googleapis.com")
        self._path = f"/v1/projects/{self._account.project_id}/messages:send"
        self._token = TokenCache(self._fetch_token, net.now)
        self._client: Http2Client | None = None

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        body = msgspec.json.encode({"message": self._body(message)})
        outcome = await self._once(body)
        if outcome.kind is Kind.BAD_ACCOUNT and outcome.code in ("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"):
            outcome = await self._once(body)  # the token was thrown away: one new one is tried
        return [outcome]

    async def _once(self, body: bytes) -> Outcome:
        token = await self._token.get()
        if self._client is None:
            self._client = Http2Client(self._origin, connections=self._settings.connections)
        headers = [("authorization", f"Bearer {token}"), ("content-type", "application/json")]
        outcome = self._outcome(await self._client.post(self._path, headers, body, self.options.timeout_seconds))
        if outcome.kind is Kind.BAD_ACCOUNT:
            self._token.discard(token)
        return outcome

    def _body(self, message: Message) -> dict[str, Any]:
        content = message.content
        android: dict[str, Any] = {"priority": "NORMAL" if message.urgency == "bulk" else "HIGH"}
        if message.valid_until is not None:
            android["ttl"] = f"{max(int((message.valid_until - self.net.now()).total_seconds()), 0)}s"
        if message.thread:
            android["collapse_key"] = message.thread
        return {
            "token": message.address,
            "notification": {"title": clip(content.title, 200), "body": clip(content.text, 2_500)},
            "data": {"id": message.message_id, "thread": message.thread, "url": clip(content.url, 500)},
            "android": android,
        }

    def _outcome(self, response: Response) -> Outcome:
        if response.status == 200:
            name = response.json().get("name")
            if not isinstance(name, str) or not name:
                raise BadReply("no name in the answer")
            return accepted(name)
        try:
            error: dict[str, Any] = response.json().get("error") or {}
        except BadReply:
            error = {}
        details = error.get("details") or ()
        code = next(
            (str(one["errorCode"]) for one in details if isinstance(one, dict) and one.get("errorCode")),
            str(error.get("status", "")),
        )
        text = str(error.get("message", ""))
        kind = _KINDS.get(code) or _by_status(response.status)
        if kind is Kind.BAD_MESSAGE and "registration token" in text.lower():
            kind = Kind.BAD_RECIPIENT
        after = None
        if kind in (Kind.THROTTLED, Kind.TRANSIENT):
            after = retry_after(response, self.net.now(), QUOTA if kind is Kind.THROTTLED else SOON)
        return failed(kind, code or response.status, text, after)

    async def _fetch_token(self) -> Token:
        now = int(self.net.now().timestamp())
        url = self._settings.token_url or self._account.token_uri
        claims = {"iss": self._account.client_email, "scope": SCOPE, "aud": url, "iat": now, "exp": now + 3600}
        form = urlencode({"grant_type": GRANT, "assertion": rs256(self._key, {"typ": "JWT"}, claims)})
        origin, path = split_url(url)
        response = await self.net.http.request(
            origin, "POST", path, FORM_HEADERS, form.encode(), self.options.timeout_seconds
        )
        if response.status in (400, 401, 403):
            raise TokenRefused(str(response.status), "the assertion was refused")
        answer = response.json()
        if response.status != 200 or not answer.get("access_token"):
            raise BadReply(f"HTTP {response.status}: no access token")
        return Token(str(answer["access_token"]), timedelta(seconds=int(answer.get("expires_in", 3600))))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def _by_status(status: int) -> Kind:
    if status == 429:
        return Kind.THROTTLED
    if status >= 500:
        return Kind.TRANSIENT
    if status in (401, 403):
        return Kind.BAD_ACCOUNT
    return Kind.BAD_RECIPIENT if status == 404 else Kind.BAD_MESSAGE
