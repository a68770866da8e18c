"""The two doors of the gateway, by provider name: `POST /v1/receipts/{provider}` and `POST /v1/callbacks/{provider}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from shared.contracts.providers import aliyun, dingtalk, feishu, signed_http, slack, tencent, twilio, wecom
from shared.contracts.providers.receipts import Callback, Inbound, Receipts

_RECEIPTS: Mapping[str, Callable[[Inbound, Mapping[str, str], datetime], Receipts]] = {
    "signed_http_sms": signed_http.receipts,
    "aliyun_sms": aliyun.receipts,
    "tencent_sms": tencent.receipts,
    "twilio": twilio.receipts,
}

_CALLBACKS: Mapping[str, Callable[[Inbound, Mapping[str, str], datetime], Callback]] = {
    "wecom_app": wecom.callback,
    "dingtalk_work": dingtalk.callback,
    "feishu_app": feishu.callback,
    "slack": slack.callback,
}


CALLBACK_SECRETS: Mapping[str, tuple[str, ...]] = {
    "wecom_app": ("callback_token", "aes_key"),
    "dingtalk_work": ("callback_token", "aes_key"),
    "feishu_app": ("verification_token",),
    "slack": ("signing_secret",),
}
"""What a provider entry must give for its cards' buttons to call back; without them its buttons are links."""


class UnknownProvider(Exception):
    """No provider of this name sends such requests (404)."""


def parse_receipt(driver: str, inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Receipts:
    """Verify and read a receipt request of a driver with the secrets of one provider entry; `now` is wall time, aware.

    Raises `Forged` (401), `Malformed` (400), `UnknownProvider` (404). Answer with `Receipts.reply` only after the
    items are stored.
    """
    try:
        parse = _RECEIPTS[driver]
    except KeyError:
        raise UnknownProvider(driver) from None
    return parse(inbound, secrets, now)


def parse_callback(driver: str, inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Callback:
    """Verify and read a card's callback; the same errors as `parse_receipt`. A handshake has no action, only a reply."""
    try:
        parse = _CALLBACKS[driver]
    except KeyError:
        raise UnknownProvider(driver) from None
    return parse(inbound, secrets, now)
