"""Twilio Messages: one recipient a call, form encoded, no idempotency key; callbacks tell the fate.

Twilio queues up to ten hours, so each message carries its own validity.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from urllib.parse import urlencode

import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, ReceiptMode, accepted, failed
from services.notifier.channels.http import FORM_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, clip, gateway_trouble, retry_after
from services.notifier.channels.signing import basic
from services.notifier.channels.tencent import e164
from services.notifier.errors import BadReply

CODES = Codes(
    {
        "20429": Kind.THROTTLED,
        "21611": Kind.THROTTLED,
        "30001": Kind.THROTTLED,
        "21211": Kind.BAD_RECIPIENT,
        "21614": Kind.BAD_RECIPIENT,
        "21610": Kind.BAD_RECIPIENT,
        "21612": Kind.BAD_RECIPIENT,
        "21408": Kind.BAD_RECIPIENT,
        "30003": Kind.BAD_RECIPIENT,
        "30005": Kind.BAD_RECIPIENT,
        "30006": Kind.BAD_RECIPIENT,
        "21617": Kind.BAD_MESSAGE,
        "30007": Kind.BAD_MESSAGE,
        "20003": Kind.BAD_ACCOUNT,
        "30002": Kind.BAD_ACCOUNT,
        "30034": Kind.BAD_ACCOUNT,
        "21606": Kind.BAD_ACCOUNT,
        "30008": Kind.TRANSIENT,
        "30036": Kind.BAD_MESSAGE,
    },
    default=Kind.BAD_MESSAGE,
)

THROTTLED_FOR = timedelta(seconds=10)
LONGEST_VALIDITY = 36_000
MAX_BODY = 1_600


class TwilioSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sender` is a number or an id of a messaging service (MG…); `status_callback` is the public URL of our receipts."""

    sender: str
    status_callback: str = ""


class TwilioDriver(Driver):
    """Secrets `account_sid` and `auth_token`, or an API key as `key_sid` and `key_secret` beside the account."""

    name = "twilio"
    channel = "sms"
    receipts = ReceiptMode.PUSH
    secrets = ("account_sid", "auth_token")
    settings_type: ClassVar[type[msgspec.Struct]] = TwilioSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(TwilioSettings)
        self._endpoint = Endpoint(net.http, options.base_url or "https://api.twilio.com", options.timeout_seconds)
        account = options.secret("account_sid")
        user, password = (
            options.secrets.get("key_sid", account),
            options.secrets.get("key_secret", options.secret("auth_token")),
        )
        self._headers = [*FORM_HEADERS, ("authorization", basic(user, password))]
        self._path = f"/2010-04-01/Accounts/{account}/Messages.json"

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message, settings = group[0], self._settings
        form = {"To": e164(message.address), "Body": clip(message.content.text, MAX_BODY)}
        form["MessagingServiceSid" if settings.sender.startswith("MG") else "From"] = settings.sender
        if settings.status_callback:
            form["StatusCallback"] = settings.status_callback
        if message.valid_until is not None:
            left = (message.valid_until - self.net.now()).total_seconds()
            form["ValidityPeriod"] = str(int(min(max(left, 1), LONGEST_VALIDITY)))
        response = await self._endpoint.post(self._path, self._headers, urlencode(form).encode())
        return [self._outcome(response)]

    def _outcome(self, response: Response) -> Outcome:
        if trouble := gateway_trouble(response, self.net.now()):
            return trouble
        answer = response.json()
        if response.status in (200, 201):
            sid = answer.get("sid")
            if not isinstance(sid, str) or not sid:
                raise BadReply("no sid in the answer")
            return accepted(sid)
        code = str(answer.get("code", ""))
        kind = Kind.BAD_ACCOUNT if response.status in (401, 403) and not code else CODES.kind(code)
        after = retry_after(response, self.net.now(), THROTTLED_FOR) if kind is Kind.THROTTLED else None
        return failed(kind, code or response.status, str(answer.get("message", "")), after)
