"""A fake Twilio: Basic auth, form bodies, signed status callbacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import ClassVar
from urllib.parse import urlencode

from tests.fakes.server import Answer, FakeProvider, ReceiptRequest, Recorded, Taken

_STATUS = {"20429": 429, "20003": 401}


class FakeTwilio(FakeProvider):
    throttle_code = "20429"
    errors: ClassVar = {
        "20429": "throttled",
        "21611": "throttled",
        "30001": "throttled",
        "21211": "bad_recipient",
        "21614": "bad_recipient",
        "21610": "bad_recipient",
        "21612": "bad_recipient",
        "21408": "bad_recipient",
        "30003": "bad_recipient",
        "30005": "bad_recipient",
        "30006": "bad_recipient",
        "21617": "bad_message",
        "30007": "bad_message",
        "20003": "bad_account",
        "30002": "bad_account",
        "30034": "bad_account",
        "21606": "bad_account",
        "30008": "transient",
    }

    def __init__(self, account: str, token: str) -> None:
        super().__init__()
        self.account, self.token = account, token

    def handle(self, request: Recorded) -> Answer:
        expected = "Basic " + base64.b64encode(f"{self.account}:{self.token}".encode()).decode()
        if request.headers.get("authorization") != expected:
            self.refused_signatures += 1
            return self._error("20003")
        if self.throttled():
            return self._error("20429")
        form = request.form
        if code := self.error_for(form["To"]):
            return self._error(code)
        if len(form["Body"]) > 1600:
            return self._error("21617")
        sid = f"SM{self.new_id():032x}"
        self.taken.append(Taken(form["To"], sid, form["Body"]))
        return Answer(201, {"sid": sid, "status": "queued", "error_code": None, "num_segments": "1", "to": form["To"]})

    def _error(self, code: str) -> Answer:
        status = _STATUS.get(code, 400)
        return Answer(
            status, {"code": int(code), "message": f"refused {self.token}", "status": status}, {"retry-after": "5"}
        )

    def receipt(self, taken: Taken, url: str, status: str = "delivered", *, forged: bool = False) -> ReceiptRequest:
        """A callback to the full public `url` of our gateway."""
        fields = {
            "MessageSid": taken.provider_id,
            "MessageStatus": status,
            "To": taken.address,
            "AccountSid": self.account,
        }
        signed = url + "".join(name + fields[name] for name in sorted(fields))
        key = b"forged" if forged else self.token.encode()
        signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha1).digest()).decode()
        return ReceiptRequest("", {"x-twilio-signature": signature}, urlencode(fields).encode())
