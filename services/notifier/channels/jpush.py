"""JPush: notifications to Android and iOS in mainland China, by registration id.

`cid` is an idempotency key for a day, but must be drawn from the provider. It is therefore returned as the
`provider_id` of an `unknown` outcome: an attempt that gets it back in `Message.provider_id` makes no second copy.

Whether a notification arrived is asked of the report service, which has an address of its own:
`POST /v3/status/message {"msg_id": 1, "registration_ids": ["r"]}` answers `{"r": {"status": 0}}`: 0 arrived, 1 not yet, 2 no
registration of this application, 3 none that this message was for, 4 not known at the moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
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
    failed,
    receipt_of,
)
from services.notifier.channels.http import JSON_HEADERS, Endpoint, Response
from services.notifier.channels.replies import Codes, clip, gateway_trouble, number, retry_after
from services.notifier.channels.signing import basic
from services.notifier.errors import BadReply, NoAnswer, NotWritten
from shared.contracts.providers.receipts import Receipt, ReceiptState

CODES = Codes(
    {
        "1011": Kind.BAD_RECIPIENT,
        "1003": Kind.BAD_MESSAGE,
        "1005": Kind.BAD_MESSAGE,
        "1004": Kind.BAD_ACCOUNT,
        "1008": Kind.BAD_ACCOUNT,
        "2002": Kind.THROTTLED,
        "1000": Kind.TRANSIENT,
    },
    default=Kind.BAD_MESSAGE,
)

ARRIVALS = {
    0: accepted(state=ReceiptState.DELIVERED),
    2: failed(Kind.BAD_RECIPIENT, "status 2", "no registration of this application"),
}
"""What the report service says of one registration; anything else is not known yet."""
RATE = timedelta(seconds=60)
DEFAULT_TTL = 86_400


class JPushSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`cids` is how many idempotency keys are drawn at once (10, or 1,000 on paid plans). `report_url`: where
    arrivals are asked for, by default the provider's own, or `base_url` where that is given.
    """

    apns_production: bool = True
    cids: int = 10
    report_url: str = ""


class JPushDriver(Driver):
    """Secrets `app_key` and `master_secret`."""

    name = "jpush"
    channel = "app"
    has_idempotency = True
    receipts = ReceiptMode.POLL
    secrets = ("app_key", "master_secret")
    settings_type: ClassVar[type[msgspec.Struct]] = JPushSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        self._settings = options.read(JPushSettings)
        self._endpoint = Endpoint(net.http, options.base_url or "https://api.jpush.cn", options.timeout_seconds)
        report = self._settings.report_url or options.base_url or "https://report.jpush.cn"
        self._report = Endpoint(net.http, report, options.timeout_seconds)
        self._app_key = options.secret("app_key")
        self._headers = [*JSON_HEADERS, ("authorization", basic(self._app_key, options.secret("master_secret")))]
        self._cids: deque[str] = deque()

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        message = group[0]
        earlier = message.provider_id or ""
        cid = earlier if earlier.startswith(f"{self._app_key}-") else await self._draw()
        if isinstance(cid, Outcome):
            return [cid]
        data = msgspec.json.encode(self._body(message, cid))
        try:
            response = await self._endpoint.post("/v3/push", self._headers, data)
            return [self._outcome(response)]
        except (NoAnswer, BadReply) as error:
            return [Outcome(Kind.UNKNOWN, cid, code="no_answer", detail=str(error), resend_safe=True)]

    async def poll(self, messages: Sequence[Message]) -> list[Receipt]:
        found = []
        for message in messages:
            if message.provider_id is None or not message.provider_id.isdecimal():
                continue
            asked = {"msg_id": int(message.provider_id), "registration_ids": [message.address]}
            response = await self._report.post("/v3/status/message", self._headers, msgspec.json.encode(asked))
            if response.status != 200:
                continue  # the query was refused: nothing is known of the message
            known = response.json().get(message.address) or {}
            outcome = ARRIVALS.get(number(known.get("status")))
            if outcome is not None and (receipt := receipt_of(message, outcome)) is not None:
                found.append(receipt)
        return found

    async def _draw(self) -> str | Outcome:
        """The next idempotency key; a failure here sends nothing."""
        while not self._cids:
            try:
                response = await self._endpoint.get(f"/v3/push/cid?count={self._settings.cids}", self._headers)
                if response.status != 200:
                    return self._refused(response)
                self._cids.extend(str(cid) for cid in response.json().get("cidlist") or ())
            except (NoAnswer, BadReply) as error:
                raise NotWritten(f"no cid: {error}") from error
            if not self._cids:
                raise NotWritten("no cid in the answer")
        return self._cids.popleft()

    def _body(self, message: Message, cid: str) -> dict[str, Any]:
        content = message.content
        alert, title = clip(content.text, 1_000), clip(content.title, 100)
        left = (message.valid_until - self.net.now()).total_seconds() if message.valid_until else DEFAULT_TTL
        extras = {"url": content.url, "thread": message.thread}
        return {
            "cid": cid,
            "platform": "all",
            "audience": {"registration_id": [message.address]},
            "notification": {
                "android": {"alert": alert, "title": title, "extras": extras},
                "ios": {"alert": {"title": title, "body": alert}, "thread-id": message.thread, "extras": extras},
            },
            "options": {
                "time_to_live": int(min(max(left, 0), 10 * 86_400)),
                "apns_production": self._settings.apns_production,
            },
        }

    def _outcome(self, response: Response) -> Outcome:
        if response.status == 200:
            answer = response.json()
            if not answer.get("msg_id"):
                raise BadReply("no msg_id in the answer")
            return accepted(str(answer["msg_id"]))
        return self._refused(response)

    def _refused(self, response: Response) -> Outcome:
        try:
            error: dict[str, Any] = response.json().get("error") or {}
        except BadReply:
            error = {}
        code = str(error.get("code", ""))
        if response.status in (401, 403):
            return failed(Kind.BAD_ACCOUNT, code or response.status, str(error.get("message", "")))
        if response.status == 429 or code == "2002":
            reset = response.header(b"x-rate-limit-reset")
            after = (
                timedelta(seconds=min(int(reset), 3600))
                if reset.isdecimal()
                else retry_after(response, self.net.now(), RATE)
            )
            return failed(Kind.THROTTLED, code or 429, "", after)
        trouble = gateway_trouble(response, self.net.now())
        if trouble is not None and not code:
            return trouble
        return failed(CODES.kind(code), code or response.status, str(error.get("message", "")))
