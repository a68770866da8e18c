"""Tencent Cloud SMS (2021-01-11, TC3-HMAC-SHA256): up to 200 numbers of one text in a call, each with its own code.

A whole-call error is HTTP 200 too. There is no idempotency key and no query by our own id: a lost answer stays
unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
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
from services.notifier.channels.http import Endpoint
from services.notifier.channels.replies import CHINA, Codes, gateway_trouble, next_midnight
from services.notifier.channels.signing import tc3_authorization
from services.notifier.errors import BadReply

CODES = Codes(
    {
        "LimitExceeded.PhoneNumberThirtySecondLimit": Kind.CAPPED_RECIPIENT,
        "LimitExceeded.PhoneNumberOneHourLimit": Kind.CAPPED_RECIPIENT,
        "LimitExceeded.PhoneNumberDailyLimit": Kind.CAPPED_RECIPIENT,
        "LimitExceeded.PhoneNumberSameContentDailyLimit": Kind.CAPPED_RECIPIENT,
        "LimitExceeded.AppDailyLimit": Kind.BAD_ACCOUNT,
        "LimitExceeded.AppMainlandChinaDailyLimit": Kind.BAD_ACCOUNT,
        "LimitExceeded.AppGlobalDailyLimit": Kind.BAD_ACCOUNT,
        "LimitExceeded.DailyLimit": Kind.BAD_ACCOUNT,
        "LimitExceeded.AppCountryOrRegion*": Kind.BAD_ACCOUNT,
        "LimitExceeded.DeliveryFrequencyLimit": Kind.THROTTLED,
        "LimitExceeded.GlobalSmsSendingRateLimit": Kind.THROTTLED,
        "RequestLimitExceeded*": Kind.THROTTLED,
        "InvalidParameterValue.IncorrectPhoneNumber": Kind.BAD_RECIPIENT,
        "FailedOperation.PhoneNumberInBlacklist": Kind.BAD_RECIPIENT,
        "FailedOperation.PhoneNumberParseFail": Kind.BAD_RECIPIENT,
        "UnsupportedOperation.UnsupportedRegion": Kind.BAD_RECIPIENT,
        "FailedOperation.Template*": Kind.BAD_MESSAGE,
        "FailedOperation.ContainSensitiveWord": Kind.BAD_MESSAGE,
        "InvalidParameterValue.*": Kind.BAD_MESSAGE,
        "LimitExceeded.PhoneNumberCountLimit": Kind.BAD_MESSAGE,
        "FailedOperation.MarketingSendTimeConstraint": Kind.THROTTLED,
        "FailedOperation.SignatureIncorrectOrUnapproved": Kind.BAD_ACCOUNT,
        "FailedOperation.InsufficientBalanceInSmsPackage": Kind.BAD_ACCOUNT,
        "UnauthorizedOperation*": Kind.BAD_ACCOUNT,
        "AuthFailure*": Kind.BAD_ACCOUNT,
        "InternalError.Timeout": Kind.UNKNOWN,
        "InternalError*": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

THROTTLED_FOR = timedelta(seconds=1)
_CAPS = {
    "LimitExceeded.PhoneNumberThirtySecondLimit": timedelta(seconds=30),
    "LimitExceeded.PhoneNumberOneHourLimit": timedelta(hours=1),
}
_SERVICE_HOST = "sms.tencentcloudapi.com"


class TencentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`template` is used when a message names none."""

    app_id: str
    sign_name: str
    template: str = ""
    region: str = "ap-guangzhou"


class TencentSmsDriver(Driver):
    """Secrets `secret_id` and `secret_key`, and `token` with temporary keys."""

    name = "tencent_sms"
    channel = "sms"
    batch_size = 200
    receipts = ReceiptMode.PUSH
    secrets = ("secret_id", "secret_key")
    settings_type: ClassVar[type[msgspec.Struct]] = TencentSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(TencentSettings)
        self._endpoint = Endpoint(net.http, options.base_url or f"https://{_SERVICE_HOST}", options.timeout_seconds)

    def groups(self, batch: Sequence[Message]) -> list[list[Message]]:
        """By text and by mainland or not; a number at most once in a call."""
        seen: dict[str, int] = {}
        marks: dict[str, object] = {}
        for message in batch:
            number = e164(message.address)
            turn = seen[number] = seen.get(number, 0) + 1
            words = (message.content.template, tuple(message.content.variables.values()))
            marks[message.message_id] = (message.urgency, words, number.startswith("+86"), turn)
        return chunks(batch, self.batch_size, lambda message: marks[message.message_id])

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        content, settings = group[0].content, self._settings
        body = msgspec.json.encode(
            {
                "PhoneNumberSet": [e164(message.address) for message in group],
                "SmsSdkAppId": settings.app_id,
                "SignName": settings.sign_name,
                "TemplateId": content.template or settings.template,
                "TemplateParamSet": list(content.variables.values()),
                "SessionContext": group[0].message_id,
            }
        )
        response = await self._endpoint.post("/", self._headers(body), body)
        if trouble := gateway_trouble(response, self.net.now()):
            return [trouble] * len(group)
        answer = response.json().get("Response")
        if not isinstance(answer, dict):
            raise BadReply("no Response in the answer")
        error = answer.get("Error")
        if isinstance(error, dict):
            return [self._refused(str(error.get("Code", "")), str(error.get("Message", "")))] * len(group)
        statuses = answer.get("SendStatusSet")
        if not isinstance(statuses, list):
            raise BadReply("no SendStatusSet in the answer")
        found = {entry.get("PhoneNumber"): entry for entry in statuses if isinstance(entry, dict)}
        return [self._outcome(found.get(e164(message.address))) for message in group]

    def _headers(self, body: bytes) -> list[tuple[str, str]]:
        now = self.net.now()
        host = self._endpoint.origin.authority
        key_id, key = self.options.secret("secret_id"), self.options.secret("secret_key")
        headers = [
            ("content-type", "application/json"),
            ("X-TC-Action", "SendSms"),
            ("X-TC-Version", "2021-01-11"),
            ("X-TC-Region", self._settings.region),
            ("X-TC-Timestamp", str(int(now.timestamp()))),
            ("Authorization", tc3_authorization(key_id, key, "sms", host, body, now)),
        ]
        if token := self.options.secrets.get("token"):
            headers.append(("X-TC-Token", token))
        return headers

    def _outcome(self, entry: dict[str, Any] | None) -> Outcome:
        if entry is None:
            return failed(Kind.UNKNOWN, "missing", "no status for this number")
        if entry.get("Code") == "Ok":
            return accepted(str(entry.get("SerialNo", "")) or None)
        return self._refused(str(entry.get("Code", "")), str(entry.get("Message", "")))

    def _refused(self, code: str, text: str) -> Outcome:
        kind, now = CODES.kind(code), self.net.now()
        if code == "FailedOperation.MarketingSendTimeConstraint":  # allowed from 08 to 22
            return failed(kind, code, text, next_morning(now) - now)
        outcome = failed(kind, code, text, THROTTLED_FOR if kind is Kind.THROTTLED else None)
        if kind is Kind.CAPPED_RECIPIENT:
            cap = _CAPS.get(code)
            return msgspec.structs.replace(outcome, until=now + cap if cap else next_midnight(now))
        if kind is Kind.BAD_ACCOUNT and code.startswith("LimitExceeded."):
            return msgspec.structs.replace(outcome, until=next_midnight(now))
        return outcome


def e164(address: str) -> str:
    """With a plus; bare numbers of 11 digits are mainland ones."""
    if address.startswith("+"):
        return address
    return f"+86{address}" if len(address) == 11 else f"+{address}"


def next_morning(now: datetime) -> datetime:
    """The next 08:00 in China."""
    local = now.astimezone(CHINA)
    morning = local.replace(hour=8, minute=0, second=0, microsecond=0)
    return (morning if morning > local else morning + timedelta(days=1)).astimezone(now.tzinfo)
