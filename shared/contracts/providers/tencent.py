"""Tencent Cloud SMS status push: a JSON array, not signed: an unguessable `token` in the query. Answered
`{"result":0,"errmsg":"OK"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.contracts.providers.checks import china_time, json_list, require_token, text
from shared.contracts.providers.receipts import Inbound, Receipt, Receipts, ReceiptState, Reply

ANSWER = Reply(200, b'{"result":0,"errmsg":"OK"}')


def receipts(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Receipts:
    """Secrets: `token`, and `networks` (space separated) when only some peers may call."""
    require_token(inbound, secrets)
    return Receipts(tuple(_receipt(entry) for entry in json_list(inbound.body)), ANSWER)


def _receipt(entry: Mapping[str, Any]) -> Receipt:
    delivered = text(entry, "report_status") == "SUCCESS"
    number = text(entry, "mobile")
    nation = text(entry, "nationcode", optional=True)
    return Receipt(
        provider_id=text(entry, "sid"),
        state=ReceiptState.DELIVERED if delivered else ReceiptState.FAILED,
        address=f"+{nation}{number}" if nation and not number.startswith("+") else number,
        at=china_time(entry.get("user_receive_time")),
        detail=""
        if delivered
        else f"{text(entry, 'errmsg', optional=True)} {text(entry, 'description', optional=True)}".strip(),
    )
