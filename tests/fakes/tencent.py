"""A fake Tencent SMS: checks TC3 signatures from the raw request, answers each number by itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime
from typing import Any, ClassVar

from tests.fakes.server import Answer, FakeProvider, ReceiptRequest, Recorded, Taken

_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(\S+?)/(\d{4}-\d\d-\d\d)/sms/tc3_request, SignedHeaders=(\S+), Signature=([0-9a-f]{64})"
)


class FakeTencent(FakeProvider):
    throttle_code = "LimitExceeded.DeliveryFrequencyLimit"
    errors: ClassVar = {
        "LimitExceeded.PhoneNumberThirtySecondLimit": "capped_recipient",
        "LimitExceeded.PhoneNumberOneHourLimit": "capped_recipient",
        "LimitExceeded.PhoneNumberDailyLimit": "capped_recipient",
        "LimitExceeded.PhoneNumberSameContentDailyLimit": "capped_recipient",
        "LimitExceeded.AppDailyLimit": "bad_account",
        "LimitExceeded.AppMainlandChinaDailyLimit": "bad_account",
        "LimitExceeded.AppGlobalDailyLimit": "bad_account",
        "LimitExceeded.DailyLimit": "bad_account",
        "LimitExceeded.AppCountryOrRegionDailyLimit": "bad_account",
        "LimitExceeded.DeliveryFrequencyLimit": "throttled",
        "LimitExceeded.GlobalSmsSendingRateLimit": "throttled",
        "RequestLimitExceeded": "throttled",
        "RequestLimitExceeded.IPLimitExceeded": "throttled",
        "InvalidParameterValue.IncorrectPhoneNumber": "bad_recipient",
        "FailedOperation.PhoneNumberInBlacklist": "bad_recipient",
        "FailedOperation.PhoneNumberParseFail": "bad_recipient",
        "UnsupportedOperation.UnsupportedRegion": "bad_recipient",
        "FailedOperation.TemplateIncorrectOrUnapproved": "bad_message",
        "FailedOperation.ContainSensitiveWord": "bad_message",
        "InvalidParameterValue.ContentLengthLimit": "bad_message",
        "InvalidParameterValue.TemplateParameterLengthLimit": "bad_message",
        "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter": "bad_message",
        "InvalidParameterValue.TemplateParameterFormatError": "bad_message",
        "LimitExceeded.PhoneNumberCountLimit": "bad_message",
        "FailedOperation.MarketingSendTimeConstraint": "throttled",
        "FailedOperation.SignatureIncorrectOrUnapproved": "bad_account",
        "FailedOperation.InsufficientBalanceInSmsPackage": "bad_account",
        "UnauthorizedOperation.SmsSdkAppIdVerifyFail": "bad_account",
        "AuthFailure.SignatureFailure": "bad_account",
        "InternalError.Timeout": "unknown",
        "InternalError.SendAndRecvFail": "transient",
        "InternalError.OtherError": "transient",
        "InternalError.UnknownError": "transient",
    }

    def __init__(self, secret_id: str, secret_key: str) -> None:
        super().__init__()
        self.secret_id, self.secret_key = secret_id, secret_key

    def handle(self, request: Recorded) -> Answer:
        if not self._signed(request):
            self.refused_signatures += 1
            return self._whole("AuthFailure.SignatureFailure")
        if self.throttled():
            return self._whole("LimitExceeded.DeliveryFrequencyLimit")
        body = request.json()
        numbers = body["PhoneNumberSet"]
        if len(numbers) > 200 or len({number.startswith("+86") for number in numbers}) > 1:
            return self._whole("LimitExceeded.PhoneNumberCountLimit")
        if self.next_errors and self.next_errors[0].startswith(("AuthFailure", "RequestLimit", "InternalError")):
            return self._whole(self.next_errors.popleft())
        return Answer(
            body={"Response": {"SendStatusSet": [self._one(number, body) for number in numbers], "RequestId": "r"}}
        )

    def _one(self, number: str, body: dict[str, Any]) -> dict[str, Any]:
        entry = {"PhoneNumber": number, "Fee": 1, "SessionContext": body["SessionContext"], "IsoCode": "CN"}
        if code := self.error_for(number):
            return entry | {"SerialNo": "", "Code": code, "Message": f"refused {self.secret_key}"}
        serial = f"5000:{self.new_id():030d}"
        self.taken.append(Taken(number, serial, json.dumps(body["TemplateParamSet"]), body["SessionContext"]))
        return entry | {"SerialNo": serial, "Code": "Ok", "Message": "send success"}

    def _whole(self, code: str) -> Answer:
        return Answer(
            body={"Response": {"Error": {"Code": code, "Message": f"refused {self.secret_key}"}, "RequestId": "r"}}
        )

    def _signed(self, request: Recorded) -> bool:
        headers = request.headers
        given = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        stamp = headers.get("x-tc-timestamp", "0")
        if given is None or abs(time.time() - int(stamp)) > 300 or given.group(3) != "content-type;host":
            return False
        if given.group(2) != datetime.fromtimestamp(int(stamp), UTC).strftime("%Y-%m-%d"):
            return False
        signed = f"content-type:{headers['content-type']}\nhost:{headers['host']}\n"
        digest = hashlib.sha256(request.body).hexdigest()
        canonical = hashlib.sha256(f"POST\n/\n\n{signed}\ncontent-type;host\n{digest}".encode()).hexdigest()
        key = ("TC3" + self.secret_key).encode()
        for part in (given.group(2), "sms", "tc3_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"TC3-HMAC-SHA256\n{stamp}\n{given.group(2)}/sms/tc3_request\n{canonical}"
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return given.group(1) == self.secret_id and hmac.compare_digest(expected, given.group(4))

    def receipt(self, taken: Taken, *, token: str, delivered: bool = True) -> ReceiptRequest:
        report = {
            "user_receive_time": "2026-11-24 12:00:05",
            "nationcode": "86",
            "mobile": taken.address.removeprefix("+86"),
            "report_status": "SUCCESS" if delivered else "FAIL",
            "errmsg": "DELIVRD" if delivered else "UNDELIV",
            "sid": taken.provider_id,
        }
        return ReceiptRequest(f"token={token}", {}, json.dumps([report]).encode())
