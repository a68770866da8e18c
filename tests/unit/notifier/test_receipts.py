"""Receipts and card actions: what is authentic is read, everything else is refused, nothing makes the readers stumble."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.providers import sealed, standard, twilio
from shared.contracts.providers.bounce import read_bounce
from shared.contracts.providers.inbound import UnknownProvider, parse_callback, parse_receipt
from shared.contracts.providers.receipts import Forged, Inbound, Malformed, Receipt, ReceiptState
from tests.fakes import callbacks
from tests.fakes.server import ReceiptRequest

NOW = datetime.fromtimestamp(1_700_000_000, UTC)
AES = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
SALT = b"0123456789abcdef"
WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
GATEWAY = "https://desk.example.com/v1"


@dataclass(frozen=True)
class Genuine:
    """A request its provider would send, with the secrets it is checked by and how to spoil it."""

    driver: str
    door: str
    inbound: Inbound
    secrets: Mapping[str, str]


def inbound(path: str, body: bytes, headers: Mapping[str, str] | None = None, query: str = "") -> Inbound:
    return Inbound(f"{GATEWAY}{path}?{query}" if query else GATEWAY + path, headers or {}, body, "203.0.113.9")


def aliyun() -> Genuine:
    report = {
        "phone_number": "13811110000",
        "send_time": "2017-01-01 00:00:00",
        "report_time": "2017-01-01 08:00:00",
        "success": True,
        "err_code": "DELIVERED",
        "err_msg": "ok",
        "sms_size": "1",
        "biz_id": "12345",
        "out_id": "67890",
    }
    failed = report | {"success": False, "err_code": "MK:0001", "phone_number": "13811110001"}
    body = json.dumps([report, failed]).encode()
    return Genuine(
        "aliyun_sms",
        "receipt",
        inbound("/receipts/aliyun_sms", body, query="token=unguessable"),
        {"token": "unguessable"},
    )


def tencent() -> Genuine:
    report = {
        "user_receive_time": "2015-10-17 08:03:04",
        "nationcode": "86",
        "mobile": "13800000000",
        "report_status": "SUCCESS",
        "sid": "s-1",
    }
    return Genuine(
        "tencent_sms",
        "receipt",
        inbound("/receipts/tencent_sms", json.dumps([report]).encode(), query="token=t0"),
        {"token": "t0"},
    )


def twilio_form() -> Genuine:
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+15005550006", "AccountSid": "AC1"}
    url = GATEWAY + "/receipts/twilio"
    headers = {"x-twilio-signature": twilio.sign("12345", url, fields)}
    return Genuine("twilio", "receipt", Inbound(url, headers, urlencode(fields).encode()), {"auth_token": "12345"})


def generic_sms() -> Genuine:
    body = json.dumps(
        {"receipts": [{"provider_id": "p1", "state": "delivered", "id": "m1", "at": "2023-11-14T22:00:00Z"}]}
    ).encode()
    headers = dict(standard.headers((WHSEC,), "r1", 1_700_000_000, body))
    return Genuine("signed_http_sms", "receipt", inbound("/receipts/signed_http_sms", body, headers), {"secret": WHSEC})


def button(driver: str, request: ReceiptRequest, secrets: Mapping[str, str]) -> Genuine:
    return Genuine(
        driver, "callback", inbound(f"/callbacks/{driver}", request.body, request.headers, request.query), secrets
    )


def wecom() -> Genuine:
    request = callbacks.wecom_button("accept:tok-1", "zhang", 1_700_000_000, token="tok", aes_key=AES, corp_id="corp-1")
    return button("wecom_app", request, {"callback_token": "tok", "aes_key": AES, "corp_id": "corp-1"})


def dingtalk() -> Genuine:
    request = callbacks.dingtalk_button(
        "accept:tok-1", "zhang", 1_700_000_000, token="tok", aes_key=AES, app_key="dingkey"
    )
    return button("dingtalk_work", request, {"callback_token": "tok", "aes_key": AES, "app_key": "dingkey"})


def feishu_sealed() -> Genuine:
    request = callbacks.feishu_button(
        "accept:tok-1", "ou_1", 1_700_000_000, verification_token="vtok", encrypt_key="ekey"
    )
    return button("feishu_app", request, {"verification_token": "vtok", "encrypt_key": "ekey"})


def slack_button() -> Genuine:
    request = callbacks.slack_button("accept:tok-1", "U1", 1_700_000_000, signing_secret="ssec")
    return button("slack", request, {"signing_secret": "ssec"})


GENUINE = [aliyun(), tencent(), twilio_form(), generic_sms(), wecom(), dingtalk(), feishu_sealed(), slack_button()]
every_provider = pytest.mark.parametrize("genuine", GENUINE, ids=lambda one: one.driver)


def read(
    genuine: Genuine, *, at: datetime = NOW, secrets: Mapping[str, str] | None = None, request: Inbound | None = None
) -> Any:
    parse = parse_receipt if genuine.door == "receipt" else parse_callback
    return parse(genuine.driver, request or genuine.inbound, genuine.secrets if secrets is None else secrets, at)


@every_provider
def test_a_genuine_request_is_read(genuine: Genuine) -> None:
    answer = read(genuine)
    if genuine.door == "receipt":
        assert answer.items[0].state is ReceiptState.DELIVERED
    else:
        assert answer.action is not None
        assert answer.action.value == "accept:tok-1"
        assert answer.action.user in ("zhang", "ou_1", "U1")


@every_provider
def test_another_secret_or_none_at_all_makes_it_a_forgery(genuine: Genuine) -> None:
    for name, value in genuine.secrets.items():
        wrong = (
            WHSEC[:-3] + "AA="
            if value.startswith("whsec_")
            else value[::-1] + "x" * (43 - len(value) if name == "aes_key" else 1)
        )
        if name != "encrypt_key":
            with pytest.raises((Forged, ValueError)):
                read(genuine, secrets={**genuine.secrets, name: ""})
        with pytest.raises(Forged):
            read(genuine, secrets={**genuine.secrets, name: wrong})


@every_provider
def test_a_changed_body_is_never_believed(genuine: Genuine) -> None:
    if genuine.driver in ("aliyun_sms", "tencent_sms"):  # these do not sign: the token of the URL is all there is
        forged = Inbound(genuine.inbound.url.replace("token=", "token=x"), {}, genuine.inbound.body)
    else:
        at = len(genuine.inbound.body) // 2
        spoilt = bytearray(genuine.inbound.body)
        spoilt[at] ^= 1
        forged = Inbound(genuine.inbound.url, genuine.inbound.headers, bytes(spoilt))
    with pytest.raises((Forged, Malformed)):
        read(genuine, request=forged)


@pytest.mark.parametrize(
    "genuine",
    [one for one in GENUINE if one.driver in ("signed_http_sms", "wecom_app", "dingtalk_work", "feishu_app", "slack")],
)
def test_an_old_request_played_again_is_a_forgery(genuine: Genuine) -> None:
    with pytest.raises(Forged):
        read(genuine, at=datetime.fromtimestamp(1_700_000_000 + 600, UTC))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_body_makes_a_reader_fail_otherwise_than_by_refusing(data: st.DataObject, body: bytes) -> None:
    genuine = data.draw(st.sampled_from(GENUINE))
    headers = {name: data.draw(st.text(max_size=20)) for name in genuine.inbound.headers}
    for given_headers in (headers, genuine.inbound.headers):
        try:
            read(genuine, request=Inbound(genuine.inbound.url, given_headers, body, "not an address"))
        except (Forged, Malformed):
            continue


def test_aliyun_receipts_carry_their_number_their_time_in_utc_and_dead_numbers() -> None:
    good, dead = read(aliyun()).items
    assert (good.provider_id, good.address, good.message_id) == ("12345", "13811110000", "67890")
    assert good.at == datetime(2017, 1, 1, 0, 0, tzinfo=UTC)
    assert (dead.state, dead.bad_recipient) == (ReceiptState.FAILED, True)
    assert read(aliyun()).reply.body == b'{"code":0,"msg":"ok"}'


def test_a_peer_outside_the_configured_networks_is_refused() -> None:
    one = aliyun()
    assert read(one, secrets={**one.secrets, "networks": "203.0.113.0/24 198.51.100.0/24"}).items
    with pytest.raises(Forged):
        read(one, secrets={**one.secrets, "networks": "198.51.100.0/24"})


@pytest.mark.parametrize(
    "shown", ["https://desk.example.com/v1/receipts/twilio", "https://desk.example.com:443/v1/receipts/twilio"]
)
def test_twilio_may_sign_the_url_with_or_without_its_port(shown: str) -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "read"}
    headers = {"x-twilio-signature": twilio.sign("12345", shown, fields)}
    request = Inbound("https://desk.example.com/v1/receipts/twilio", headers, urlencode(fields).encode())
    assert parse_receipt("twilio", request, {"auth_token": "12345"}, NOW).items == (Receipt("SM1", ReceiptState.READ),)


def test_twilio_may_sign_with_a_shared_key() -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": "30005"}
    url = "https://desk.example.com/v1/receipts/twilio"
    headers = {
        "x-twilio-signature": twilio.sign("shared", url, fields, "sha256"),
        "x-twilio-webhooks-signature-settings": "key=k1,algorithm=HMAC_SHA256",
    }
    request = Inbound(url, headers, urlencode(fields).encode())
    [receipt] = parse_receipt("twilio", request, {"auth_token": "t", "webhook_key": "shared"}, NOW).items
    assert (receipt.state, receipt.bad_recipient) == (ReceiptState.FAILED, True)
    with pytest.raises(Forged):
        parse_receipt("twilio", request, {"auth_token": "shared"}, NOW)


def test_states_on_the_way_give_no_receipt() -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": "queued"}
    url = "https://desk.example.com/v1/receipts/twilio"
    request = Inbound(url, {"x-twilio-signature": twilio.sign("t", url, fields)}, urlencode(fields).encode())
    assert parse_receipt("twilio", request, {"auth_token": "t"}, NOW).items == ()


def test_address_checks_are_answered_with_their_challenge() -> None:
    envelope = sealed.seal_work(b"hello", AES, "corp-1", SALT)
    query = {
        "msg_signature": sealed.work_signature("tok", "1700000000", "n", envelope),
        "timestamp": "1700000000",
        "nonce": "n",
        "echostr": envelope,
    }
    answer = parse_callback(
        "wecom_app", inbound("/callbacks/wecom_app", b"", query=urlencode(query)), wecom().secrets, NOW
    )
    assert (answer.action, answer.reply.body) == (None, b"hello")
    body = json.dumps({"type": "url_verification", "token": "vtok", "challenge": "c1"}).encode()
    answer = parse_callback("feishu_app", inbound("/callbacks/feishu_app", body), {"verification_token": "vtok"}, NOW)
    assert json.loads(answer.reply.body) == {"challenge": "c1"}


def test_dingtalk_is_answered_with_a_sealed_success() -> None:
    answer = json.loads(read(dingtalk()).reply.body)
    assert sealed.open_work(answer["encrypt"], AES, "dingkey") == b"success"
    assert answer["msg_signature"] == sealed.work_signature(
        "tok", answer["timeStamp"], answer["nonce"], answer["encrypt"]
    )


def test_a_provider_that_sends_nothing_is_unknown() -> None:
    with pytest.raises(UnknownProvider):
        parse_receipt("feishu_bot", inbound("/receipts/feishu_bot", b""), {}, NOW)


@given(text=st.binary(max_size=300), salt=st.binary(min_size=16, max_size=16))
def test_envelopes_open_to_what_was_sealed(text: bytes, salt: bytes) -> None:
    assert sealed.open_work(sealed.seal_work(text, AES, "corp", salt), AES, "corp") == text
    assert sealed.open_feishu(sealed.seal_feishu(text, "key", salt), "key") == text


MOVES = [
    (None, "delivered", True),
    (None, "failed", True),
    ("delivered", "read", True),
    ("delivered", "delivered", False),
    ("delivered", "failed", False),
    ("read", "delivered", False),
    ("read", "failed", False),
    ("failed", "delivered", True),
    ("failed", "read", True),
    ("failed", "failed", False),
]


@pytest.mark.parametrize(("earlier", "state", "moves"), MOVES)
def test_states_only_move_forward(earlier: str | None, state: str, moves: bool) -> None:
    assert ReceiptState(state).follows(ReceiptState(earlier) if earlier else None) is moves


@given(order=st.permutations(["delivered", "read", "failed", "delivered", "failed", "read"]))
def test_receipts_in_any_order_end_in_the_same_state(order: list[str]) -> None:
    state: ReceiptState | None = None
    for text in order:
        if ReceiptState(text).follows(state):
            state = ReceiptState(text)
    assert state is ReceiptState.READ


BOUNCE = b"""From: MAILER-DAEMON@mx.example.com
To: bounce@example.com
Subject: failed
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b1"

--b1
Content-Type: text/plain

sorry
--b1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com
Original-Envelope-Id: msg-0042

Final-Recipient: rfc822; gone@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user

Final-Recipient: rfc822; slow@example.com
Action: delayed
Status: 4.4.1

Final-Recipient: rfc822; full@example.com
Action: failed
Status: 5.2.2
--b1
Content-Type: text/rfc822-headers

Message-ID: <msg-other@example.com>
--b1--
"""


def test_a_bounce_names_each_recipient_with_a_fate() -> None:
    gone, full = read_bounce(BOUNCE)
    assert (gone.message_id, gone.address, gone.state, gone.bad_recipient) == (
        "msg-0042",
        "gone@example.com",
        ReceiptState.FAILED,
        True,
    )
    assert (full.address, full.bad_recipient) == ("full@example.com", False)


def test_a_bounce_without_envelope_id_is_matched_by_the_quoted_message_id() -> None:
    assert read_bounce(BOUNCE.replace(b"Original-Envelope-Id: msg-0042\n", b""))[0].message_id == "msg-other"


def test_mail_that_is_no_report_gives_nothing() -> None:
    assert read_bounce(b"Subject: hello\n\nhello") == ()


@given(raw=st.binary(max_size=300), cut=st.integers(0, len(BOUNCE)))
def test_no_mail_makes_the_bounce_reader_fail(raw: bytes, cut: int) -> None:
    assert isinstance(read_bounce(raw), tuple)
    assert isinstance(read_bounce(BOUNCE[:cut] + raw + BOUNCE[cut:]), tuple)
