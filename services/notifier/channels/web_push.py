"""Web Push: RFC 8291 encryption for each subscription, VAPID tokens cached by origin.

The address is the browser's subscription as JSON (`endpoint`, `keys.p256dh`, `keys.auth`). Endpoints come from
browsers, so they pass the same guard as webhooks. `Topic` replaces a waiting message of the same thread.

| answer | outcome |
|---|---|
| 2xx | accepted |
| 404, 410 | bad_recipient: the subscription is gone |
| 400, 413 | bad_message |
| 401, 403 | bad_account |
| 429 | throttled, by Retry-After |
| 5xx | transient |
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.guard import Guard
from services.notifier.channels.http import Origin, Response, split_url
from services.notifier.channels.jwt import es256
from services.notifier.channels.replies import clip, retry_after
from services.notifier.errors import ConfigError

BUSY = timedelta(seconds=30)
TOKEN_LIFE = timedelta(hours=12)
DEFAULT_TTL = 86_400
MAX_PLAIN = 3_000  # stays below 4,096 bytes encrypted, with room for the JSON around it
_URGENCY = {"urgent": "high", "normal": "normal", "bulk": "low"}
_KINDS = {
    400: Kind.BAD_MESSAGE,
    413: Kind.BAD_MESSAGE,
    401: Kind.BAD_ACCOUNT,
    403: Kind.BAD_ACCOUNT,
    404: Kind.BAD_RECIPIENT,
    410: Kind.BAD_RECIPIENT,
}


class Keys(msgspec.Struct, frozen=True):
    """The browser's public key (65 bytes) and secret (16 bytes), base64url."""

    p256dh: str
    auth: str


class Subscription(msgspec.Struct, frozen=True):
    """What `PushSubscription.toJSON()` gives."""

    endpoint: str
    keys: Keys


class WebPushSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`subject` tells the push service whom to write to: mailto: or https:."""

    subject: str


class WebPushDriver(Driver):
    """Secret `private_key`: the VAPID key, PEM or base64url of its 32 bytes."""

    name = "web_push"
    channel = "app"
    secrets = ("private_key",)
    settings_type: ClassVar[type[msgspec.Struct]] = WebPushSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(WebPushSettings)
        self._key = private_key(options.secret("private_key"))
        self._public = b64url(
            self._key.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
        )
        self._guard = Guard(options.allow)
        self._tokens: dict[Origin, tuple[str, datetime]] = {}

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        try:
            subscription = msgspec.json.decode(message.address, type=Subscription)
            origin, path = split_url(subscription.endpoint)
            body = encrypt(
                self._plain(message), subscription.keys, ec.generate_private_key(ec.SECP256R1()), self._salt()
            )
        except (msgspec.DecodeError, ValueError, ConfigError):
            return [failed(Kind.BAD_RECIPIENT, "subscription", "not a subscription")]
        pinned = await self._guard.pin(origin)
        response = await self.net.http.request(
            pinned, "POST", path, self._headers(message, origin), body, self.options.timeout_seconds
        )
        return [self._outcome(response)]

    def _salt(self) -> bytes:
        return sha256(self.net.nonce().encode()).digest()[:16]

    def _plain(self, message: Message) -> bytes:
        content = message.content
        shown: dict[str, Any] = {
            "title": clip(content.title, 200),
            "body": clip(content.text, 1_500),
            "url": content.url,
            "id": message.message_id,
        }
        return msgspec.json.encode(shown)[:MAX_PLAIN]

    def _headers(self, message: Message, origin: Origin) -> list[tuple[str, str]]:
        now = self.net.now()
        left = int((message.valid_until - now).total_seconds()) if message.valid_until else DEFAULT_TTL
        headers = [
            ("content-encoding", "aes128gcm"),
            ("content-type", "application/octet-stream"),
            ("ttl", str(max(left, 0))),
            ("urgency", _URGENCY.get(message.urgency, "normal")),
            ("authorization", f"vapid t={self._token(origin, now)},k={self._public}"),
        ]
        if message.thread:
            headers.append(("topic", b64url(sha256(message.thread.encode()).digest())[:32]))
        return headers

    def _token(self, origin: Origin, now: datetime) -> str:
        known = self._tokens.get(origin)
        if known is not None and known[1] - now > TOKEN_LIFE / 2:
            return known[0]
        expires_at = now + TOKEN_LIFE
        audience = f"{'https' if origin.tls else 'http'}://{origin.authority}"
        token = es256(
            self._key,
            {"typ": "JWT"},
            {"aud": audience, "exp": int(expires_at.timestamp()), "sub": self._settings.subject},
        )
        self._tokens[origin] = (token, expires_at)
        return token

    def _outcome(self, response: Response) -> Outcome:
        status = response.status
        if status in (200, 201, 202, 204):
            return accepted(response.header(b"location") or None)
        if status == 429:
            return failed(Kind.THROTTLED, status, "", retry_after(response, self.net.now(), BUSY))
        if status >= 500:
            return failed(Kind.TRANSIENT, status)
        return failed(_KINDS.get(status, Kind.TRANSIENT), status)


def encrypt(plain: bytes, keys: Keys, sender: ec.EllipticCurvePrivateKey, salt: bytes) -> bytes:
    """RFC 8291 in one record; `sender` is a key for this message alone, `salt` 16 random bytes. Raises `ValueError` for
    bad keys.
    """
    receiver_raw, auth = unb64url(keys.p256dh), unb64url(keys.auth)
    if len(auth) != 16:
        raise ValueError("the secret has not 16 bytes")
    receiver = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), receiver_raw)
    sender_raw = sender.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    shared = sender.exchange(ec.ECDH(), receiver)
    secret = _hkdf(auth, shared, b"WebPush: info\0" + receiver_raw + sender_raw, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    sealed = AESGCM(key).encrypt(nonce, plain + b"\x02", None)
    return salt + (4096).to_bytes(4, "big") + bytes([len(sender_raw)]) + sender_raw + sealed


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def b64url(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """The reverse, padding optional; raises `ValueError`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def private_key(text: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key from PEM or from base64url of its 32 bytes; raises `ConfigError`."""
    try:
        if "BEGIN" in text:
            key = serialization.load_pem_private_key(text.encode(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError("not an elliptic curve key")
            return key
        return ec.derive_private_key(int.from_bytes(unb64url(text), "big"), ec.SECP256R1())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"private_key: {error}") from error
