"""Delivery status notifications and complaints that come back as mail (RFC 3464, RFC 5965), read into receipts.

A bounce is matched by its envelope address first (the mailbox that got it belongs to us), then by
`Original-Envelope-Id` (our message id), then by the `Message-ID` of the mail it quotes. Mail proves nothing about its
sender: a bounce may stop a cascade's wait, never act on a ticket.
"""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from typing import cast

from shared.contracts.providers.receipts import Malformed, Receipt, ReceiptState

_MESSAGE_ID = re.compile(r"(?im)^message-id:\s*<([^@>\s]+)@")
_STATES = {"failed": ReceiptState.FAILED, "delivered": ReceiptState.DELIVERED, "relayed": ReceiptState.DELIVERED}
_DEAD_MAILBOX = re.compile(r"5\.1\.\d+|5\.2\.1")
MAX_BOUNCE = 1 << 20


def read_bounce(raw: bytes) -> tuple[Receipt, ...]:
    """Receipts of one report, one for each recipient with a fate (`delayed` has none); empty for mail that is no report."""
    if len(raw) > MAX_BOUNCE:
        raise Malformed("the mail is too large")
    mail = cast(EmailMessage, BytesParser(policy=policy.compat32).parsebytes(raw))
    if mail.get_content_type() != "multipart/report" or not mail.is_multipart():
        return ()
    parts = cast("list[Message[str, str]]", mail.get_payload())
    quoted = _quoted_id(parts)
    if mail.get_param("report-type") == "feedback-report":
        return _complaint(parts, quoted)
    for part in parts:
        if part.get_content_type() == "message/delivery-status":
            return tuple(_receipts(part, quoted))
    return ()


def _receipts(part: Message[str, str], quoted: str | None) -> list[Receipt]:
    blocks = cast("list[Message[str, str]]", part.get_payload()) if part.is_multipart() else []
    envelope = next(
        (str(block["Original-Envelope-Id"]).strip() for block in blocks if block["Original-Envelope-Id"]), None
    )
    message_id = _xtext(envelope) if envelope else quoted
    found = []
    for block in blocks:
        state = _STATES.get(str(block["Action"] or "").strip().lower())
        recipient = str(block["Final-Recipient"] or block["Original-Recipient"] or "").partition(";")[2].strip()
        if state is None or not recipient:
            continue
        status = str(block["Status"] or "").strip()
        detail = f"{status} {str(block['Diagnostic-Code'] or '').strip()}".strip()[:500]
        dead = state is ReceiptState.FAILED and _DEAD_MAILBOX.match(status) is not None
        found.append(Receipt(message_id or "", state, recipient, None, detail, message_id, dead))
    return found


def _complaint(parts: list[Message[str, str]], quoted: str | None) -> tuple[Receipt, ...]:
    """A person pressed "spam": delivered, and not to be written to again."""
    for part in parts:
        if part.get_content_type() == "message/feedback-report":
            text = part.get_payload()
            body = text if isinstance(text, str) else "".join(str(one) for one in cast("list[Message[str, str]]", text))
            found = re.search(r"(?im)^Original-Rcpt-To:\s*(?:rfc822;)?\s*<?([^>\s]+)>?", body)
            address = found.group(1) if found else None
            return (Receipt(quoted or "", ReceiptState.FAILED, address, None, "complaint", quoted, True),)
    return ()


def _quoted_id(parts: list[Message[str, str]]) -> str | None:
    for part in parts:
        if part.get_content_type() in ("message/rfc822", "text/rfc822-headers"):
            payload = part.get_payload()
            text = (
                payload
                if isinstance(payload, str)
                else "".join(one.as_string() for one in cast("list[Message[str, str]]", payload))
            )
            found = _MESSAGE_ID.search(text)
            if found:
                return found.group(1)
    return None


def _xtext(value: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match.group(1), 16)), value)
