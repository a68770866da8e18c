"""Aliyun SMS (dysmsapi 2017-05-25, ACS3-HMAC-SHA256): SendSms for one or for one text, SendBatchSms for own variables.

Batches are slower at the provider, so urgent messages go singly. One BizId covers a batch: a receipt is matched on
(BizId, number), so a number occurs at most once in a call. There is no idempotency key: after a lost answer the
number and day are looked up by OutId.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar

import msgspec

from services.notifier.channels.base import (
    Driver,
    Kind,
    Message,
    Net,
    Options,
    Outcome,
    ReceiptMode,
    accepted,
    chunks,
    failed,
)
from services.notifier.channels.http import Endpoint, Response
from services.notifier.channels.replies import CHINA, Codes, next_midnight, next_month
from services.notifier.channels.signing import EMPTY_SHA256, acs3_headers, encode_pairs
from services.notifier.errors import BadReply, NoAnswer
from shared.contracts.providers.receipts import ReceiptState

CODES = Codes(
    {
        "isv.BUSINESS_LIMIT_CONTROL": Kind.CAPPED_RECIPIENT,
        "isv.DAY_LIMIT_CONTROL": Kind.BAD_ACCOUNT,
        "isv.MONTH_LIMIT_CONTROL": Kind.BAD_ACCOUNT,
        "isv.MOBILE_NUMBER_ILLEGAL": Kind.BAD_RECIPIENT,
        "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": Kind.BAD_RECIPIENT,
        "isv.MOBILE_COUNT_OVER_LIMIT": Kind.BAD_MESSAGE,
        "isv.SMS_TEMPLATE_ILLEGAL": Kind.BAD_MESSAGE,
        "isv.TEMPLATE_MISSING_PARAMETERS": Kind.BAD_MESSAGE,
        "isv.INVALID_JSON_PARAM": Kind.BAD_MESSAGE,
        "isv.PARAM_LENGTH_LIMIT": Kind.BAD_MESSAGE,
        "isv.PARAM_NOT_SUPPORT_URL": Kind.BAD_MESSAGE,
        "isv.BLACK_KEY_CONTROL_LIMIT": Kind.BAD_MESSAGE,
        "isv.SMS_CONTENT_ILLEGAL": Kind.BAD_MESSAGE,
        "isv.INVALID_PARAMETERS": Kind.BAD_MESSAGE,
        "isv.SMS_SIGNATURE_ILLEGAL": Kind.BAD_ACCOUNT,
        "isv.SMS_SIGN_ILLEGAL": Kind.BAD_ACCOUNT,
        "isv.SIGN_STATE_ILLEGAL": Kind.BAD_ACCOUNT,
        "isv.SMS_SIGNATURE_SCENE_ILLEGAL": Kind.BAD_ACCOUNT,
        "isv.EXTEND_CODE_ERROR": Kind.BAD_ACCOUNT,
        "isv.OUT_OF_SERVICE": Kind.BAD_ACCOUNT,
        "isv.AMOUNT_NOT_ENOUGH": Kind.BAD_ACCOUNT,
        "isv.ACCOUNT_ABNORMAL": Kind.BAD_ACCOUNT,
        "isv.ACCOUNT_NOT_EXISTS": Kind.BAD_ACCOUNT,
        "isv.PRODUCT_UN_SUBSCRIPT": Kind.BAD_ACCOUNT,
        "isp.RAM_PERMISSION_DENY": Kind.BAD_ACCOUNT,
        "isv.DENY_IP_RANGE": Kind.BAD_ACCOUNT,
        "SignatureDoesNotMatch": Kind.BAD_ACCOUNT,
        "InvalidAccessKeyId*": Kind.BAD_ACCOUNT,
        "isp.SYSTEM_ERROR": Kind.TRANSIENT,
        "Throttling*": Kind.THROTTLED,
    },
    default=Kind.BAD_MESSAGE,
)

THROTTLED_FOR = timedelta(seconds=1)
_CAPS = (("分钟", timedelta(minutes=1)), ("小时", timedelta(hours=1)), ("天", timedelta(days=1)))
CLOCK_SKEW = timedelta(minutes=1)
_FORM = "application/x-www-form-urlencoded"
_VERSION = "2017-05-25"
_DETAIL_STATES = {1: None, 2: ReceiptState.FAILED, 3: ReceiptState.DELIVERED}


class AliyunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sign_name` is the approved sender name; `template` is used when a message names none."""

    sign_name: str
    template: str = ""
    batches: bool = True


class AliyunSmsDriver(Driver):
    """Secrets `key_id` and `key_secret`, and `security_token` with STS."""

    name = "aliyun_sms"
    channel = "sms"
    batch_size = 100
    has_lookup = True
    receipts = ReceiptMode.PUSH
    secrets = ("key_id", "key_secret")
    settings_type: ClassVar[type[msgspec.Struct]] = AliyunSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(AliyunSettings)
        self._endpoint = Endpoint(
            net.http, options.base_url or "https://dysmsapi.aliyuncs.com", options.timeout_seconds
        )

    def groups(self, batch: Sequence[Message]) -> list[list[Message]]:
        """Urgent ones singly; the rest by template, a number at most once in a call."""
        seen: dict[str, int] = {}
        marks: dict[str, object] = {}
        for message in batch:
            if message.urgency == "urgent" or not self._settings.batches:
                marks[message.message_id] = message.message_id
            else:
                turn = seen[message.address] = seen.get(message.address, 0) + 1
                marks[message.message_id] = (self._template(message), turn)
        return chunks(batch, self.batch_size, lambda message: marks[message.message_id])

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        if len(group) == 1:
            response = await self._ask("SendSms", self._single(group[0]))
        else:
            response = await self._ask(
                "SendBatchSms",
                {"OutId": group[0].message_id, "TemplateCode": self._template(group[0])},
                self._batch(group),
            )
        return [self._outcome(response)] * len(group)

    async def lookup(self, message: Message) -> Outcome | None:
        """By number and day of the attempt.

        Ours is the entry with our OutId, or with that of the batch it went in (`reference`). When the batch is not
        known, because we were killed in the call, another recent entry of this number may be ours: that is `unknown`.
        """
        sent_at = message.attempted_at or self.net.now()
        query = {
            "CurrentPage": "1",
            "PageSize": "50",
            "PhoneNumber": _phone(message.address),
            "SendDate": sent_at.astimezone(CHINA).strftime("%Y%m%d"),
        }
        try:
            answer = (await self._ask("QuerySendDetails", query)).json()
        except (NoAnswer, BadReply) as error:
            return failed(Kind.UNKNOWN, "lookup", str(error))
        if answer.get("Code") != "OK":
            return failed(Kind.UNKNOWN, answer.get("Code", "lookup"), "the query was refused")
        entries = (answer.get("SmsSendDetailDTOs") or {}).get("SmsSendDetailDTO") or []
        known = {message.message_id, message.provider_id}
        for entry in entries:
            if entry.get("OutId") in known or entry.get("BizId") == message.provider_id:
                return _known(entry)
        horizon = (sent_at - CLOCK_SKEW).astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")
        if message.provider_id is None and any(str(entry.get("SendDate", "9")) >= horizon for entry in entries):
            return failed(Kind.UNKNOWN, "lookup", "another message to this number may be this one")
        return None

    def reference(self, group: Sequence[Message]) -> str | None:
        return group[0].message_id

    def _template(self, message: Message) -> str:
        return message.content.template or self._settings.template

    def _single(self, message: Message) -> dict[str, str]:
        return {
            "OutId": message.message_id,
            "PhoneNumbers": _phone(message.address),
            "SignName": self._settings.sign_name,
            "TemplateCode": self._template(message),
            "TemplateParam": msgspec.json.encode(message.content.variables).decode(),
        }

    def _batch(self, group: Sequence[Message]) -> bytes:
        form = {
            "PhoneNumberJson": msgspec.json.encode([_phone(message.address) for message in group]).decode(),
            "SignNameJson": msgspec.json.encode([self._settings.sign_name] * len(group)).decode(),
            "TemplateParamJson": msgspec.json.encode([message.content.variables for message in group]).decode(),
        }
        return encode_pairs(form).encode()

    async def _ask(self, action: str, query: dict[str, str], body: bytes = b"") -> Response:
        encoded = encode_pairs(query)
        digest = EMPTY_SHA256
        headers = {
            "host": self._endpoint.origin.authority,
            "x-acs-action": action,
            "x-acs-date": self.net.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": self.net.nonce(),
            "x-acs-version": _VERSION,
        }
        if body:
            headers["content-type"] = _FORM
            digest = sha256(body).hexdigest()
        headers["x-acs-content-sha256"] = digest
        if token := self.options.secrets.get("security_token"):
            headers["x-acs-security-token"] = token
        authorization, _ = acs3_headers(
            self.options.secret("key_id"), self.options.secret("key_secret"), encoded, headers, digest
        )
        del headers["host"]  # the client writes it
        return await self._endpoint.post(f"/?{encoded}", [*headers.items(), ("Authorization", authorization)], body)

    def _outcome(self, response: Response) -> Outcome:
        try:
            answer = response.json()
        except BadReply:
            if response.status >= 500:
                return failed(Kind.TRANSIENT, response.status)
            raise
        code, text = str(answer.get("Code", "")), str(answer.get("Message", ""))
        if code == "OK":
            return accepted(str(answer.get("BizId", "")) or None)
        if not code:
            raise BadReply(f"HTTP {response.status}: no Code in the answer")
        if response.status >= 500:
            return failed(Kind.TRANSIENT, code, text)
        return self._refused(code, text, self.net.now())

    def _refused(self, code: str, text: str, now: datetime) -> Outcome:
        kind = CODES.kind(code)
        outcome = failed(kind, code, text, THROTTLED_FOR if kind is Kind.THROTTLED else None)
        if code == "isv.BUSINESS_LIMIT_CONTROL":
            cap = next((length for word, length in _CAPS if word in text), timedelta(days=1))
            return msgspec.structs.replace(outcome, until=now + cap)
        if code == "isv.DAY_LIMIT_CONTROL":
            return msgspec.structs.replace(outcome, until=next_midnight(now))
        if code == "isv.MONTH_LIMIT_CONTROL":
            return msgspec.structs.replace(outcome, until=next_month(now))
        return outcome


def _phone(address: str) -> str:
    """Mainland numbers without +86, others with their country code and no plus."""
    return re.sub(r"^(\+86|\+)", "", address)


def _known(entry: dict[str, Any]) -> Outcome:
    state = _DETAIL_STATES.get(entry.get("SendStatus", 0))
    return msgspec.structs.replace(accepted(entry.get("BizId"), state), code=str(entry.get("ErrCode", "")))
