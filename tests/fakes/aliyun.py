"""A fake Aliyun SMS: checks ACS3 signatures from the raw request, keeps BizIds, answers queries, writes SmsReport
receipts.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime, timedelta, timezone
from typing import ClassVar

from tests.fakes.server import Answer, FakeProvider, ReceiptRequest, Recorded, Taken

_MESSAGES = {"isv.BUSINESS_LIMIT_CONTROL": "触发小时级流控Permits:5"}


class FakeAliyun(FakeProvider):
    throttle_code = "Throttling.User"
    errors: ClassVar = {
        "isv.BUSINESS_LIMIT_CONTROL": "capped_recipient",
        "isv.DAY_LIMIT_CONTROL": "bad_account",
        "isv.MONTH_LIMIT_CONTROL": "bad_account",
        "isv.MOBILE_NUMBER_ILLEGAL": "bad_recipient",
        "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": "bad_recipient",
        "isv.MOBILE_COUNT_OVER_LIMIT": "bad_message",
        "isv.SMS_TEMPLATE_ILLEGAL": "bad_message",
        "isv.TEMPLATE_MISSING_PARAMETERS": "bad_message",
        "isv.INVALID_JSON_PARAM": "bad_message",
        "isv.PARAM_LENGTH_LIMIT": "bad_message",
        "isv.PARAM_NOT_SUPPORT_URL": "bad_message",
        "isv.BLACK_KEY_CONTROL_LIMIT": "bad_message",
        "isv.SMS_CONTENT_ILLEGAL": "bad_message",
        "isv.INVALID_PARAMETERS": "bad_message",
        "isv.SMS_SIGNATURE_ILLEGAL": "bad_account",
        "isv.SMS_SIGN_ILLEGAL": "bad_account",
        "isv.SIGN_STATE_ILLEGAL": "bad_account",
        "isv.SMS_SIGNATURE_SCENE_ILLEGAL": "bad_account",
        "isv.EXTEND_CODE_ERROR": "bad_account",
        "isv.OUT_OF_SERVICE": "bad_account",
        "isv.AMOUNT_NOT_ENOUGH": "bad_account",
        "isv.ACCOUNT_ABNORMAL": "bad_account",
        "isv.ACCOUNT_NOT_EXISTS": "bad_account",
        "isv.PRODUCT_UN_SUBSCRIPT": "bad_account",
        "isp.RAM_PERMISSION_DENY": "bad_account",
        "isv.DENY_IP_RANGE": "bad_account",
        "InvalidAccessKeyId.NotFound": "bad_account",
        "SignatureDoesNotMatch": "bad_account",
        "isp.SYSTEM_ERROR": "transient",
        "Throttling": "throttled",
        "Throttling.User": "throttled",
    }

    def __init__(self, key_id: str, secret: str) -> None:
        super().__init__()
        self.key_id, self.secret = key_id, secret
        self.nonces: set[str] = set()
        self.details: list[dict[str, object]] = []

    def handle(self, request: Recorded) -> Answer:
        if not self._signed(request):
            self.refused_signatures += 1
            return self._error("SignatureDoesNotMatch", 400)
        action = request.headers["x-acs-action"]
        if action == "QuerySendDetails":
            number = request.query["PhoneNumber"]
            return Answer(
                body={
                    "Code": "OK",
                    "SmsSendDetailDTOs": {
                        "SmsSendDetailDTO": [entry for entry in self.details if entry["PhoneNum"] == number]
                    },
                }
            )
        if self.throttled():
            return self._error("Throttling.User", 400)
        return self._single(request) if action == "SendSms" else self._batch(request)

    def _single(self, request: Recorded) -> Answer:
        query = request.query
        numbers = query["PhoneNumbers"].split(",")
        if code := self.error_for(numbers[0]):
            return self._error(code)
        return self._take([(number, query["TemplateParam"]) for number in numbers], query.get("OutId", ""))

    def _batch(self, request: Recorded) -> Answer:
        numbers, signs, params = (
            json.loads(request.form[name]) for name in ("PhoneNumberJson", "SignNameJson", "TemplateParamJson")
        )
        if not len(numbers) == len(signs) == len(params) <= 100 or len(set(numbers)) != len(numbers):
            return self._error("isv.MOBILE_COUNT_OVER_LIMIT")
        if code := self.error_for(numbers[0]):
            return self._error(code)
        return self._take(
            [(number, json.dumps(param)) for number, param in zip(numbers, params, strict=True)],
            request.query.get("OutId", ""),
        )

    def _take(self, entries: list[tuple[str, str]], out_id: str) -> Answer:
        biz_id = f"9006197469364984{self.new_id():03d}^0"
        for number, param in entries:
            self.taken.append(Taken(number, biz_id, param, out_id))
            self.details.append(
                {
                    "PhoneNum": number,
                    "OutId": out_id,
                    "BizId": biz_id,
                    "SendStatus": 3,
                    "SendDate": datetime.now(timezone(timedelta(hours=8))).strftime("%Y-%m-%d %H:%M:%S"),
                    "ErrCode": "DELIVERED",
                    "ReceiveDate": "2026-11-24 12:00:00",
                }
            )
        return Answer(body={"Code": "OK", "Message": "OK", "BizId": biz_id, "RequestId": "r"})

    def _error(self, code: str, status: int = 200) -> Answer:
        return Answer(
            status, {"Code": code, "Message": _MESSAGES.get(code, f"refused {self.secret}"), "RequestId": "r"}
        )

    def _signed(self, request: Recorded) -> bool:
        """Rebuild the string that was signed from the request as it came over the wire."""
        given = dict(
            part.split("=", 1) for part in request.headers.get("authorization", "").partition(" ")[2].split(",")
        )
        names = given.get("SignedHeaders", "").split(";")
        needed = {
            "host",
            "x-acs-action",
            "x-acs-version",
            "x-acs-date",
            "x-acs-signature-nonce",
            "x-acs-content-sha256",
        }
        if not needed <= set(names) or (request.body and "content-type" not in names):
            return False
        digest = hashlib.sha256(request.body).hexdigest()
        nonce = request.headers["x-acs-signature-nonce"]
        if digest != request.headers["x-acs-content-sha256"] or nonce in self.nonces:
            return False
        self.nonces.add(nonce)
        lines = "".join(f"{name}:{request.headers.get(name, '')}\n" for name in sorted(names))
        query = "&".join(sorted(request.raw_query.split("&")))
        canonical = f"{request.method}\n{request.path}\n{query}\n{lines}\n{';'.join(sorted(names))}\n{digest}"
        to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
        expected = hmac.new(self.secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
        return given.get("Credential") == self.key_id and hmac.compare_digest(expected, given.get("Signature", ""))

    def receipt(self, taken: list[Taken], *, token: str, delivered: bool = True) -> ReceiptRequest:
        """One SmsReport push over several messages; there is no signature, the path carries an unguessable token."""
        report = [
            {
                "phone_number": one.address,
                "send_time": "2026-11-24 12:00:00",
                "report_time": "2026-11-24 12:00:05",
                "success": delivered,
                "err_code": "DELIVERED" if delivered else "MK:0001",
                "err_msg": "用户接收成功" if delivered else "空号",
                "sms_size": "1",
                "biz_id": one.provider_id,
                "out_id": one.message_id,
            }
            for one in taken
        ]
        return ReceiptRequest(
            f"token={token}", {"content-type": "application/json"}, json.dumps(report, ensure_ascii=False).encode()
        )
