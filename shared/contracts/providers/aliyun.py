"""Aliyun SmsReport: a JSON array of many reports, not signed: an unguessable `token` in the query, and known networks.

Answered with `{"code":0,"msg":"ok"}`, else sent again after 1, 5 and 10 minutes. Times are UTC+8 without a zone. One
`biz_id` covers a batch: a receipt is matched on (`biz_id`, number).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.contracts.providers.checks import china_time, json_list, require_token, text
from shared.contracts.providers.receipts import Inbound, Receipt, Receipts, ReceiptState, Reply

ANSWER = Reply(200, b'{"code":0,"msg":"ok"}')
_DEAD_NUMBER = frozenset(("MOBILE_NOT_ON_SERVICE", "MK:0001", "UNDELIV:NONUMBER"))  # "空号", by carrier


def receipts(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Receipts:
    """Secrets: `token`, and `networks` (space separated) when only some peers may call."""
    require_token(inbound, secrets)
    return Receipts(tuple(_receipt(entry) for entry in json_list(inbound.body)), ANSWER)


def _receipt(entry: Mapping[str, Any]) -> Receipt:
    delivered = entry.get("success") in (True, "true")
    code = text(entry, "err_code", optional=True)
    return Receipt(
        provider_id=text(entry, "biz_id"),
        state=ReceiptState.DELIVERED if delivered else ReceiptState.FAILED,
        address=text(entry, "phone_number"),
        at=china_time(entry.get("report_time")),
        detail="" if delivered else f"{code} {text(entry, 'err_msg', optional=True)}".strip(),
        message_id=text(entry, "out_id", optional=True) or None,
        bad_recipient=not delivered and code in _DEAD_NUMBER,
    )
