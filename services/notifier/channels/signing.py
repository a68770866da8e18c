"""How requests to providers are signed: pure functions of bytes, dates and secrets. Worked examples:
tests/unit/notifier.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

EMPTY_SHA256 = sha256(b"").hexdigest()


def rfc3986(text: str) -> str:
    """Percent-encoding of RFC 3986: `~` kept, a space is `%20`."""
    return quote(text, safe="~")


def encode_pairs(pairs: Mapping[str, str]) -> str:
    """A query or form with its names sorted."""
    return "&".join([f"{rfc3986(name)}={rfc3986(pairs[name])}" for name in sorted(pairs)])


def acs3_headers(
    key_id: str, secret: str, query: str, headers: Mapping[str, str], body_sha256: str = EMPTY_SHA256
) -> tuple[str, str]:
    """Aliyun ACS3-HMAC-SHA256 of a POST to `/`: the `Authorization` value and the hash of the canonical request.

    `headers` are all that is signed, names in lower case, `x-acs-content-sha256` among them; `query` is already
    encoded and sorted.
    """
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join([f"{name}:{headers[name]}\n" for name in names])
    canonical = sha256(f"POST\n/\n{query}\n{lines}\n{signed}\n{body_sha256}".encode()).hexdigest()
    signature = hmac.digest(secret.encode(), b"ACS3-HMAC-SHA256\n" + canonical.encode(), "sha256").hex()
    return f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={signed},Signature={signature}", canonical


@lru_cache(maxsize=64)
def _tc3_key(secret: str, date: str, service: str) -> bytes:
    key = b"TC3" + secret.encode()
    for part in (date, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def tc3_authorization(key_id: str, secret: str, service: str, host: str, body: bytes, at: datetime) -> str:
    """Tencent TC3-HMAC-SHA256 of a JSON POST to `/`; the content type sent must be exactly `application/json`. `at` is
    aware UTC.
    """
    date = at.strftime("%Y-%m-%d")
    head = f"content-type:application/json\nhost:{host}\n"
    canonical = sha256(f"POST\n/\n\n{head}\ncontent-type;host\n{sha256(body).hexdigest()}".encode()).hexdigest()
    scope = f"{date}/{service}/tc3_request"
    to_sign = f"TC3-HMAC-SHA256\n{int(at.timestamp())}\n{scope}\n{canonical}"
    signature = hmac.digest(_tc3_key(secret, date, service), to_sign.encode(), "sha256").hex()
    return f"TC3-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders=content-type;host, Signature={signature}"


def dingtalk_sign(milliseconds: int, secret: str) -> str:
    """DingTalk robot: base64 HMAC of `<ms>\\n<secret>` under the secret; not yet percent-encoded."""
    return base64.b64encode(hmac.digest(secret.encode(), f"{milliseconds}\n{secret}".encode(), "sha256")).decode()


def feishu_sign(seconds: int, secret: str) -> str:
    """Feishu bot: base64 HMAC of nothing under the key `<seconds>\\n<secret>`: the other way round from DingTalk."""
    return base64.b64encode(hmac.digest(f"{seconds}\n{secret}".encode(), b"", "sha256")).decode()


def basic(user: str, password: str) -> str:
    """An `Authorization: Basic` value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
