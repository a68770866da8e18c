"""Fakes of JPush (drawn idempotency keys), Getui (derived ones) and a Web Push service that decrypts what it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.fakes.server import Answer, FakeProvider, Recorded, Taken


class FakeJPush(FakeProvider):
    throttle_code = "2002"
    errors: ClassVar = {
        "1011": "bad_recipient",
        "1003": "bad_message",
        "1005": "bad_message",
        "1004": "bad_account",
        "1008": "bad_account",
        "2002": "throttled",
        "1000": "transient",
    }

    def __init__(self, app_key: str, master_secret: str) -> None:
        super().__init__()
        self.app_key, self.master_secret = app_key, master_secret
        self.queries = 0
        self.busy = False
        self.arrivals: dict[tuple[str, str], int] = {}
        self.drawn: set[str] = set()
        self.seen: dict[str, str] = {}

    def handle(self, request: Recorded) -> Answer:
        expected = "Basic " + base64.b64encode(f"{self.app_key}:{self.master_secret}".encode()).decode()
        if request.headers.get("authorization") != expected:
            self.refused_signatures += 1
            return self._error("1004", 401)
        if request.path == "/v3/status/message":
            return self._status(request)
        if request.path == "/v3/push/cid":
            cids = [f"{self.app_key}-{self.new_id():08d}" for _ in range(int(request.query["count"]))]
            self.drawn.update(cids)
            return Answer(body={"cidlist": cids})
        if self.throttled():
            return self._error("2002", 429)
        body = request.json()
        [address] = body["audience"]["registration_id"]
        if code := self.error_for(address):
            return self._error(code, 500 if code == "1000" else 400)
        if body["cid"] not in self.drawn:
            return self._error("1003", 400)
        if body["cid"] not in self.seen:
            self.seen[body["cid"]] = str(1828256757 + self.new_id())
            self.taken.append(Taken(address, self.seen[body["cid"]], body["notification"]["android"]["alert"]))
        return Answer(body={"sendno": "0", "msg_id": self.seen[body["cid"]]})

    def arrived(self, taken: Taken) -> None:
        """The device has got it."""
        self.busy = False
        self.arrivals[taken.provider_id, taken.address] = 0

    def _status(self, request: Recorded) -> Answer:
        """Where a message is, for each registration asked about: 2 for one that this application does not have."""
        self.queries += 1
        asked = request.json()
        known = {taken.address for taken in self.taken if taken.provider_id == str(asked["msg_id"])}
        found = {
            one: {"status": self.arrivals.get((str(asked["msg_id"]), one), 1) if one in known else 2}
            for one in asked["registration_ids"]
        }
        return Answer(body=found)

    def _error(self, code: str, status: int) -> Answer:
        body = {"error": {"code": int(code), "message": f"refused {self.master_secret}"}}
        return Answer(status, body, {"x-rate-limit-reset": "11"})


class FakeGetui(FakeProvider):
    throttle_code = "10009"
    errors: ClassVar = {"10009": "throttled", "20001": "bad_message", "successed_ignore": "bad_recipient"}

    def __init__(self, app_key: str, master_secret: str) -> None:
        super().__init__()
        self.app_key, self.master_secret = app_key, master_secret
        self.tokens: set[str] = set()
        self.token_calls = 0
        self.seen: set[str] = set()

    def handle(self, request: Recorded) -> Answer:
        if request.path == "/auth":
            return self._token(request)
        if request.headers.get("token") not in self.tokens:
            return self._error("10001")
        if self.throttled():
            return self._error("10009")
        body = request.json()
        [address] = body["audience"]["cid"]
        code = self.error_for(address)
        if code == "successed_ignore":
            return Answer(body={"code": 0, "msg": "", "data": {"task-x": {address: code}}})
        if code:
            return self._error(code)
        if not 10 <= len(body["request_id"]) <= 32:
            return self._error("20001")
        if body["request_id"] in self.seen:  # dropped silently
            return Answer(body={"code": 0, "msg": "", "data": {}})
        self.seen.add(body["request_id"])
        task = f"task-{self.new_id()}"
        self.taken.append(Taken(address, task, body["push_message"]["notification"]["body"]))
        return Answer(body={"code": 0, "msg": "", "data": {task: {address: "successed_online"}}})

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def _token(self, request: Recorded) -> Answer:
        self.token_calls += 1
        body = request.json()
        expected = hashlib.sha256(f"{self.app_key}{body['timestamp']}{self.master_secret}".encode()).hexdigest()
        if body["sign"] != expected:
            self.refused_signatures += 1
            return self._error("20002")
        token = f"token-{self.new_id()}"
        self.tokens.add(token)
        return Answer(
            body={
                "code": 0,
                "msg": "",
                "data": {"token": token, "expire_time": str(int((time.time() + 86_400) * 1000))},
            }
        )

    def _error(self, code: str) -> Answer:
        return Answer(body={"code": int(code), "msg": f"refused {self.master_secret}"})


class FakeWebPush(FakeProvider):
    """A push service and a browser in one: it checks the VAPID token and decrypts the message."""

    throttle_code = "429"
    errors: ClassVar = {
        "404": "bad_recipient",
        "410": "bad_recipient",
        "400": "bad_message",
        "413": "bad_message",
        "401": "bad_account",
        "403": "bad_account",
        "429": "throttled",
        "500": "transient",
        "503": "transient",
    }

    def __init__(self, vapid_public: bytes) -> None:
        super().__init__()
        self.vapid_public = vapid_public
        self.browser = ec.derive_private_key(7, ec.SECP256R1())
        self.auth = b"0123456789abcdef"

    def subscription(self, path: str) -> str:
        public = self.browser.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        keys = {"p256dh": _b64(public), "auth": _b64(self.auth)}
        return json.dumps({"endpoint": self.url + path, "expirationTime": None, "keys": keys})

    def handle(self, request: Recorded) -> Answer:
        if not self._vapid(request):
            self.refused_signatures += 1
            return Answer(403, {})
        if self.throttled():
            return Answer(429, {}, {"retry-after": "4"})
        if code := self.error_for(request.path):
            return Answer(int(code), {})
        if (
            len(request.body) > 4096
            or not request.headers["ttl"].isdecimal()
            or len(request.headers.get("topic", "")) > 32
        ):
            return Answer(413, {})
        location = f"{self.url}/message/{self.new_id()}"
        self.taken.append(Taken(request.path, location, self.decrypt(request.body)))
        return Answer(201, {}, {"location": location})

    def decrypt(self, body: bytes) -> str:
        """RFC 8291 from the browser's side."""
        salt, length = body[:16], body[20]
        sender_raw, sealed = body[21 : 21 + length], body[21 + length :]
        sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender_raw)
        own = self.browser.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        shared = self.browser.exchange(ec.ECDH(), sender)
        secret = HKDF(hashes.SHA256(), 32, self.auth, b"WebPush: info\0" + own + sender_raw).derive(shared)
        key = HKDF(hashes.SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(secret)
        nonce = HKDF(hashes.SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(secret)
        plain = AESGCM(key).decrypt(nonce, sealed, None)
        assert plain.endswith(b"\x02")
        return plain[:-1].decode()

    def _vapid(self, request: Recorded) -> bool:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        parts = dict(part.split("=", 1) for part in rest.split(","))
        if scheme != "vapid" or _unb64(parts["k"]) != self.vapid_public:
            return False
        claims = verify_es256(parts["t"], self.vapid_public)
        return claims is not None and claims["aud"] == self.url and time.time() < claims["exp"] <= time.time() + 86_400


def verify_es256(token: str, public: bytes) -> dict[str, object] | None:
    """The claims of a token signed by the key of this uncompressed point, or none."""
    head, claims, signature = token.split(".")
    raw = _unb64(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    try:
        key.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return None
    found: dict[str, object] = json.loads(_unb64(claims))
    return found


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
