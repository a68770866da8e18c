"""WeCom callbacks: XML around an encrypted envelope, `msg_signature`, `timestamp` and `nonce` in the query.

A button of a template card comes as `template_card_event` with the task id, the button's key and a `ResponseCode`
that allows one update of the card. The address check (`echostr`, a GET) is answered with its plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from xml.etree import ElementTree

from shared.contracts.providers.checks import epoch, require_fresh, same, secret
from shared.contracts.providers.receipts import Callback, CardAction, Forged, Inbound, Malformed, Reply
from shared.contracts.providers.sealed import open_work, work_signature

_SEALED = re.compile(rb"<Encrypt>\s*(?:<!\[CDATA\[)?([A-Za-z0-9+/=\s]+?)(?:\]\]>)?\s*</Encrypt>")
ANSWER = Reply(200, b"", "text/plain")


def callback(inbound: Inbound, secrets: Mapping[str, str], now: datetime) -> Callback:
    """Secrets: `callback_token`, `aes_key` (43 characters), `corp_id`."""
    query = inbound.query()
    if not inbound.body and "echostr" in query:
        return Callback(None, Reply(200, _open(query["echostr"], query, secrets, now), "text/plain"))
    found = _SEALED.search(inbound.body)
    if found is None:
        raise Forged("there is no envelope")
    fields = _fields(_open(found.group(1).decode(), query, secrets, now))
    if fields.get("Event") != "template_card_event":
        return Callback(None, ANSWER)
    action = CardAction(
        provider="wecom_app",
        value=fields.get("EventKey", ""),
        user=fields.get("FromUserName", ""),
        at=epoch(fields.get("CreateTime", "")),
        card_id=fields.get("TaskId", ""),
        update_token=fields.get("ResponseCode", ""),
        event_id=f"{fields.get('TaskId', '')}:{fields.get('FromUserName', '')}:{fields.get('CreateTime', '')}",
    )
    return Callback(action, ANSWER)


def _open(sealed: str, query: Mapping[str, str], secrets: Mapping[str, str], now: datetime) -> bytes:
    timestamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
    expected = work_signature(secret(secrets, "callback_token"), timestamp, nonce, sealed)
    if not same(query.get("msg_signature", ""), expected):
        raise Forged("the signature does not match")
    require_fresh(timestamp, now)
    return open_work(sealed, secret(secrets, "aes_key"), secret(secrets, "corp_id"))


def _fields(xml: bytes) -> dict[str, str]:
    if b"<!DOCTYPE" in xml or b"<!ENTITY" in xml:
        raise Malformed("declarations are not read")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise Malformed("the envelope holds no XML") from error
    return {child.tag: (child.text or "").strip() for child in root}
