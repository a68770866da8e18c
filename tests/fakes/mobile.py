"""Fakes of APNs and FCM over HTTP/2: token signatures, every documented reason."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, ClassVar
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.fakes.http2 import FakeHttp2
from tests.fakes.push import verify_es256
from tests.fakes.server import Answer, FakeProvider, Recorded, Taken

_APNS_STATUS = {
    "Unregistered": 410,
    "ExpiredToken": 410,
    "PayloadTooLarge": 413,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "Forbidden": 403,
    "BadCertificate": 403,
    "ExpiredProviderToken": 403,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}


class FakeApns(FakeHttp2):
    throttle_code = "TooManyRequests"
    errors: ClassVar = {
        "Unregistered": "bad_recipient",
        "ExpiredToken": "bad_recipient",
        "BadDeviceToken": "bad_recipient",
        "DeviceTokenNotForTopic": "bad_recipient",
        "PayloadTooLarge": "bad_message",
        "PayloadEmpty": "bad_message",
        "BadCollapseId": "bad_message",
        "BadExpirationDate": "bad_message",
        "BadPriority": "bad_message",
        "InvalidProviderToken": "bad_account",
        "MissingProviderToken": "bad_account",
        "Forbidden": "bad_account",
        "BadCertificate": "bad_account",
        "TopicDisallowed": "bad_account",
        "BadTopic": "bad_account",
        "TooManyProviderTokenUpdates": "bad_account",
        "TooManyRequests": "capped_recipient",
        "InternalServerError": "transient",
        "ServiceUnavailable": "transient",
        "Shutdown": "transient",
    }

    def __init__(self, public: bytes) -> None:
        super().__init__()
        self.public = public
        self.provider_tokens: set[str] = set()

    def handle(self, request: Recorded) -> Answer:
        token = request.headers["authorization"].removeprefix("bearer ")
        claims = verify_es256(token, self.public)
        if claims is None or abs(time.time() - float(str(claims["iat"]))) > 3600:
            self.refused_signatures += 1
            return self._error("InvalidProviderToken")
        self.provider_tokens.add(token)
        device = request.path.rpartition("/")[2]
        if self.throttled():
            return self._error("TooManyRequests")
        if code := self.error_for(device):
            return self._error(code)
        if not request.body or len(request.body) > 4096:
            return self._error("PayloadTooLarge")
        self.taken.append(Taken(device, request.headers["apns-id"], json.dumps(request.json()["aps"]["alert"])))
        return Answer(200, None, {"apns-id": request.headers["apns-id"]})

    def _error(self, reason: str) -> Answer:
        body: dict[str, Any] = {"reason": reason}
        if _APNS_STATUS.get(reason) == 410:
            body["timestamp"] = int(time.time() * 1000)
        return Answer(_APNS_STATUS.get(reason, 400), body)


_FCM = {
    "UNREGISTERED": (404, "NOT_FOUND"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
    "INTERNAL": (500, "INTERNAL"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
    "UNAUTHENTICATED": (401, "UNAUTHENTICATED"),
}


class FakeGoogleTokens(FakeProvider):
    """The token endpoint: plain HTTP/1.1, checks the assertion."""

    def __init__(self, public: rsa.RSAPublicKey) -> None:
        super().__init__()
        self.public = public
        self.tokens: set[str] = set()
        self.token_calls = 0

    def handle(self, request: Recorded) -> Answer:
        self.token_calls += 1
        assertion = parse_qs(request.body.decode())["assertion"][0]
        head, claims, signature = assertion.split(".")
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        try:
            self.public.verify(raw, f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            self.refused_signatures += 1
            return Answer(400, {"error": "invalid_grant"})
        token = f"ya29.{self.new_id()}"
        self.tokens.add(token)
        return Answer(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})


class FakeFcm(FakeHttp2):
    throttle_code = "QUOTA_EXCEEDED"
    errors: ClassVar = {
        "UNREGISTERED": "bad_recipient",
        "SENDER_ID_MISMATCH": "bad_recipient",
        "INVALID_ARGUMENT": "bad_message",
        "QUOTA_EXCEEDED": "throttled",
        "UNAVAILABLE": "transient",
        "INTERNAL": "transient",
    }

    def __init__(self, public: rsa.RSAPublicKey) -> None:
        super().__init__()
        self.google = FakeGoogleTokens(public)

    @property
    def token_calls(self) -> int:
        return self.google.token_calls

    async def __aenter__(self) -> FakeFcm:
        await self.google.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self.refused_signatures = self.google.refused_signatures
        await self.google.__aexit__(*error)

    def handle(self, request: Recorded) -> Answer:
        if request.headers["authorization"].removeprefix("Bearer ") not in self.google.tokens:
            return self._error("UNAUTHENTICATED")
        if self.throttled():
            return self._error("QUOTA_EXCEEDED")
        message = request.json()["message"]
        if code := self.error_for(message["token"]):
            return self._error(code)
        if len(request.body) > 4096 or not all(isinstance(value, str) for value in message["data"].values()):
            return self._error("INVALID_ARGUMENT")
        name = f"projects/p/messages/0:{self.new_id()}"
        self.taken.append(Taken(message["token"], name, message["notification"]["body"], message["data"]["id"]))
        return Answer(200, {"name": name})

    def expire_tokens(self) -> None:
        self.google.tokens.clear()

    def _error(self, code: str) -> Answer:
        status, text = _FCM[code]
        detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
        return Answer(
            status,
            {"error": {"code": status, "message": "refused", "status": text, "details": [detail]}},
            {"retry-after": "3"},
        )
