"""Card callbacks as the work platforms would send them: a person presses a button and the platform calls our gateway.

The envelopes are sealed here by `cryptography` alone, apart from the readers in shared/contracts/providers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.fakes.server import ReceiptRequest

SALT = b"0123456789abcdef"


def _cbc(key: bytes, vector: bytes, text: bytes, block: int) -> bytes:
    size = block - len(text) % block
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return encryptor.update(text + bytes([size]) * size) + encryptor.finalize()


def _envelope(text: bytes, aes_key: str, receiver: str) -> str:
    key = base64.b64decode(aes_key + "=")
    plain = SALT + len(text).to_bytes(4, "big") + text + receiver.encode()
    return base64.b64encode(_cbc(key, key[:16], plain, 32)).decode()


def _work_signature(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()


def wecom_button(
    value: str, user: str, seconds: int, *, token: str, aes_key: str, corp_id: str, task_id: str = "task-1"
) -> ReceiptRequest:
    """A button of a template card, pressed by a member."""
    xml = (
        f"<xml><ToUserName><![CDATA[{corp_id}]]></ToUserName><FromUserName><![CDATA[{user}]]></FromUserName>"
        f"<CreateTime>{seconds}</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[template_card_event]]></Event>"
        f"<EventKey><![CDATA[{value}]]></EventKey><TaskId><![CDATA[{task_id}]]></TaskId><ResponseCode><![CDATA[rc]]></ResponseCode></xml>"
    )
    sealed = _envelope(xml.encode(), aes_key, corp_id)
    stamp = str(seconds)
    query = {"msg_signature": _work_signature(token, stamp, "n1", sealed), "timestamp": stamp, "nonce": "n1"}
    body = f"<xml><ToUserName><![CDATA[{corp_id}]]></ToUserName><Encrypt><![CDATA[{sealed}]]></Encrypt></xml>"
    return ReceiptRequest(urlencode(query), {"content-type": "text/xml"}, body.encode())


def dingtalk_button(value: str, user: str, seconds: int, *, token: str, aes_key: str, app_key: str) -> ReceiptRequest:
    """A button of an interactive card."""
    content = json.dumps({"cardPrivateData": {"actionIds": ["a1"], "params": {"value": value}}})
    event = {
        "EventId": f"e-{seconds}",
        "outTrackId": "card-1",
        "userId": user,
        "createAt": seconds * 1000,
        "content": content,
    }
    sealed = _envelope(json.dumps(event).encode(), aes_key, app_key)
    stamp = str(seconds * 1000)
    query = {"signature": _work_signature(token, stamp, "n1", sealed), "timestamp": stamp, "nonce": "n1"}
    return ReceiptRequest(
        urlencode(query), {"content-type": "application/json"}, json.dumps({"encrypt": sealed}).encode()
    )


def feishu_button(value: str, user: str, seconds: int, *, verification_token: str, encrypt_key: str) -> ReceiptRequest:
    """A button of an interactive card, sealed and signed."""
    event = {
        "schema": "2.0",
        "header": {"event_id": f"e-{seconds}", "token": verification_token, "create_time": str(seconds * 1_000_000)},
        "event": {
            "operator": {"open_id": user},
            "action": {"value": {"value": value}},
            "context": {"open_message_id": "om_1"},
        },
    }
    padder = padding.PKCS7(128).padder()
    plain = padder.update(json.dumps(event).encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(hashlib.sha256(encrypt_key.encode()).digest()), modes.CBC(SALT)).encryptor()
    body = json.dumps(
        {"encrypt": base64.b64encode(SALT + encryptor.update(plain) + encryptor.finalize()).decode()}
    ).encode()
    signature = hashlib.sha256(f"{seconds}n1{encrypt_key}".encode() + body).hexdigest()
    headers = {"x-lark-request-timestamp": str(seconds), "x-lark-request-nonce": "n1", "x-lark-signature": signature}
    return ReceiptRequest("", headers, body)


def slack_button(value: str, user: str, seconds: int, *, signing_secret: str) -> ReceiptRequest:
    """A button of a block."""
    payload = {
        "type": "block_actions",
        "user": {"id": user},
        "actions": [{"action_id": "a", "value": value, "action_ts": f"{seconds}.0001"}],
        "response_url": "https://hooks.slack.example/r",
    }
    body = urlencode({"payload": json.dumps(payload)}).encode()
    signature = "v0=" + hmac.new(signing_secret.encode(), f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
    return ReceiptRequest("", {"x-slack-request-timestamp": str(seconds), "x-slack-signature": signature}, body)


def post(request: ReceiptRequest, url: str) -> tuple[int, bytes]:
    """Call our gateway with a receipt or callback; the status and body of its answer. Blocking: from a test's own
    thread.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        path = parts.path + (f"?{request.query}" if request.query else "")
        connection.request("POST", path, request.body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
