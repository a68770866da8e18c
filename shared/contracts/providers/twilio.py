"""Twilio status callbacks: a form, signed over the public URL and every field (`X-Twilio-Signature`, HMAC-SHA1 by the auth token).

With `X-Twilio-Webhooks-Signature-Settings: key=…,algorithm=HMAC_SHA256` the shared `webhook_key` signs instead. The
URL is checked as configured, with and without its port. A JSON body is covered by `bodySHA256` of the URL, and the
URL alone is signed. Callbacks come in no promised order.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from shared.contracts.providers.checks import same, secret
from shared.contracts.providers.receipts import Forged, Inbound, Malformed, Receipt, Receipts, ReceiptState, Reply

ANSWER = Reply(204, b"", "text/plain")

STATES = {
    "delivered": ReceiptState.DELIVERED,
    "partially_delivered": ReceiptState.DELIVERED,
    "read": ReceiptState.READ,
    "undelivered": ReceiptState.FAILED,
    "failed": ReceiptState.FAILED,
    "canceled": ReceiptState.FAILED,
}
BAD_RECIPIENT = frozenset(("30003", "30005", "30006", "21610", "21614"))


def sign(key: str, url: str, fields: Mapping[str, str], digest: str = "sha1") -> str:
    """The signature of a form callback: base64 HMAC of the URL and each name and value, sorted by name."""
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(key.encode(), signed.encode(), digest)).decode()


def receipts(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Receipts:
    """Secrets: `auth_token`, and `webhook_key` for the newer form. States on the way to a fate (queued, sent, …) give no
    receipt.
    """
    newer = "algorithm=HMAC_SHA256" in inbound.headers.get("x-twilio-webhooks-signature-settings", "")
    fields = verify(inbound, secret(secrets, "webhook_key" if newer else "auth_token"), "sha256" if newer else "sha1")
    if not fields.get("MessageSid"):
        raise Malformed("MessageSid is missing")
    state = STATES.get(fields.get("MessageStatus", ""))
    if state is None:
        return Receipts((), ANSWER)
    code = fields.get("ErrorCode", "")
    receipt = Receipt(
        fields["MessageSid"], state, fields.get("To") or None, None, code, bad_recipient=code in BAD_RECIPIENT
    )
    return Receipts((receipt,), ANSWER)


def verify(inbound: Inbound, key: str, algorithm: str = "sha1") -> dict[str, str]:
    """The form's fields; raises `Forged` unless a spelling of the URL was signed with them."""
    given = inbound.headers.get("x-twilio-signature", "")
    digest = inbound.query().get("bodySHA256")
    fields: dict[str, str] = {}
    if digest is None:
        fields = inbound.form()
    elif not same(digest.lower(), hashlib.sha256(inbound.body).hexdigest()):
        raise Forged("the body does not match its hash")
    if not any(same(given, sign(key, url, fields, algorithm)) for url in spellings(inbound.url)):
        raise Forged("the signature does not match")
    return fields


def spellings(url: str) -> tuple[str, ...]:
    """The URL with and without its port: senders differ."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    bare = urlunsplit(parts._replace(netloc=host))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return (url, bare, urlunsplit(parts._replace(netloc=f"{host}:{port}")))
