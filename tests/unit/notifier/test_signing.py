"""Signatures against the worked examples of the providers' own kits."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels.signing import (
    acs3_headers,
    dingtalk_sign,
    encode_pairs,
    feishu_sign,
    rfc3986,
    tc3_authorization,
)
from shared.contracts.providers import standard, twilio
from shared.contracts.providers.receipts import Forged

AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
secrets = st.binary(min_size=24, max_size=64).map(lambda raw: "whsec_" + __import__("base64").b64encode(raw).decode())


def test_aliyun_acs3_matches_its_worked_example() -> None:
    query = encode_pairs(
        {
            "PhoneNumbers": "18500000001",
            "SignName": "演示",
            "TemplateCode": "SMS_1",
            "TemplateParam": '{"code":"42"}',
            "OutId": "n-1",
        }
    )
    assert query == (
        "OutId=n-1&PhoneNumbers=18500000001&SignName=%E6%BC%94%E7%A4%BA&TemplateCode=SMS_1&TemplateParam=%7B%22code%22%3A%2242%22%7D"
    )
    headers = {
        "host": "dysmsapi.aliyuncs.com",
        "x-acs-action": "SendSms",
        "x-acs-version": "2017-05-25",
        "x-acs-date": "2023-11-14T22:13:20Z",
        "x-acs-signature-nonce": "nonce-1",
        "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
    }
    authorization, canonical = acs3_headers("AKIDEXAMPLE", "SecretExample", query, headers)
    assert canonical == "98888769b3a1fe4e7a913a24405c7342ac69c4e2c91ff98534c21d1952b5344f"
    assert authorization.endswith("Signature=68a78ad159d0e28fce78594014cce7eb4c92565211d8b8f53e6f970c2b59f07a")
    assert authorization.startswith("ACS3-HMAC-SHA256 Credential=AKIDEXAMPLE,SignedHeaders=host;x-acs-action;")


def test_tencent_tc3_matches_its_worked_example() -> None:
    body = (
        b'{"PhoneNumberSet":["+8618500000001"],"SmsSdkAppId":"1400006666","SignName":"Demo","TemplateId":"1110",'
        b'"TemplateParamSet":["42"],"SessionContext":"n-1"}'
    )
    assert hashlib.sha256(body).hexdigest() == "1fdbaef07cc8c49d5a22ffc11ae2459953e9b5c995ec8b8f557b736dab2a72da"
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    authorization = tc3_authorization("AKID", "SecretExample", "sms", "sms.tencentcloudapi.com", body, at)
    assert authorization.endswith("Signature=3f2c6463d6fc23f7f79c6c0aabbcd7aa18fe1a312c155c3c3153e83318dbbad0")
    assert "Credential=AKID/2023-11-14/sms/tc3_request, SignedHeaders=content-type;host, " in authorization


def test_dingtalk_and_feishu_swap_key_and_message() -> None:
    assert dingtalk_sign(1_700_000_000_000, "SECexample") == "uroalHrWHORz59talE1o26b8HuX2kOp8WlAN91F9Pj0="
    assert feishu_sign(1_700_000_000, "FSexample") == "XJqjuTcV2lMPq4we70M2V3rc8Hg7df9EXXlxwYIoz7I="


def test_twilio_matches_its_worked_example() -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+15005550006"}
    assert twilio.sign("12345", "https://example.com/cb/twilio", fields) == "wFNDJIwcebTmqTQAHORO4qkzTyY="


def test_standard_webhooks_matches_its_worked_example() -> None:
    body = b'{"type":"ticket.created","data":{"id":"T-1"}}'
    assert standard.sign(WHSEC, "msg_1", 1_700_000_000, body) == "v1,j7mR1gqxXTGu4EBomNHbjFNG1G6bDJaazk2o+JWyNV8="


@given(secret=secrets, old=secrets, body=st.dictionaries(st.text(max_size=5), st.integers(), max_size=4))
def test_the_reference_verifier_accepts_what_we_sign_during_a_rotation(
    secret: str, old: str, body: dict[str, int]
) -> None:
    data = json.dumps(body).encode()
    now = datetime.now(UTC)
    headers = dict(standard.headers((secret, old), "evt_1", int(now.timestamp()), data))
    for one in (secret, old):
        assert standardwebhooks.Webhook(one).verify(data, headers) == body
        standard.verify((one,), headers, data, now)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_2"},
        {"webhook-timestamp": "1700000001"},
        {"webhook-timestamp": "1700000999"},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v2,j7mR1gqxXTGu4EBomNHbjFNG1G6bDJaazk2o+JWyNV8="},
    ],
)
def test_a_changed_header_is_a_forgery(change: dict[str, str]) -> None:
    headers = dict(standard.headers((WHSEC,), "evt_1", 1_700_000_000, b"{}")) | change
    with pytest.raises(Forged):
        standard.verify((WHSEC,), headers, b"{}", datetime.fromtimestamp(1_700_000_000, UTC))


@given(text=st.text(max_size=40))
def test_percent_encoding_keeps_only_unreserved_characters(text: str) -> None:
    encoded = rfc3986(text.encode("utf-8", "replace").decode())
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")
    assert set(encoded) <= allowed
