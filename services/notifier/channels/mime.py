"""Mails from byte templates: a message is put together from parts in microseconds, never built header by header.

Texts go out as 7bit when they are plain ASCII with short lines, else as base64; header words that are not ASCII
follow RFC 2047. No value can add a header line: CR, LF and NUL are refused.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from services.notifier.channels.base import Message

_BREAKS = re.compile(r"[\r\n\0]")
_NAME = re.compile(r"[!-9;-~]+")
_LONG = re.compile(r"[^\n]{900}")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OWN = frozenset(
    (
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "auto-submitted",
    )
)

_HEAD = (
    b"From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s>\r\n"
    b"%sMIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n"
)
_PART = b"Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n"
_ALTERNATIVE = b'Content-Type: multipart/alternative; boundary="%s"\r\n\r\n--%s\r\n%s--%s\r\n%s--%s--\r\n'


class HeaderRefused(ValueError):
    """A header's name or value would break out of its line."""


@lru_cache(maxsize=512)  # one event's subject goes to many
def header_value(text: str) -> bytes:
    """A header's value: plain when ASCII and short, else RFC 2047 words of at most 75 characters, folded."""
    if _BREAKS.search(text):
        raise HeaderRefused("a header value holds a line break")
    if text.isascii() and len(text) <= 200 and "=?" not in text:
        return text.encode()
    pieces = [text[i : i + 11].encode("utf-8", "replace") for i in range(0, len(text), 11)]  # at most 44 bytes each
    return b"\r\n ".join([b"=?utf-8?b?" + b2a_base64(piece, newline=False) + b"?=" for piece in pieces])


def mailbox(name: str, address: str) -> bytes:
    """`name <address>`, quoted or encoded as needed."""
    if _BREAKS.search(address) or "<" in address or ">" in address:
        raise HeaderRefused("an address holds a line break or an angle bracket")
    bare = address.encode("utf-8")
    if not name:
        return bare
    if name.isascii():
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return header_value(f'"{quoted}"') + b" <" + bare + b">"
    return header_value(name) + b" <" + bare + b">"


def date_value(at: datetime) -> bytes:
    """RFC 5322 date of an aware UTC instant."""
    return b"%s, %02d %s %04d %02d:%02d:%02d +0000" % (
        _DAYS[at.weekday()].encode(), at.day, _MONTHS[at.month - 1].encode(), at.year, at.hour, at.minute, at.second,
    )  # fmt: skip


def body_part(kind: bytes, text: str) -> bytes:
    """One text part with its own headers, ending in CRLF."""
    if text.isascii() and "\r" not in text and "\0" not in text and not _LONG.search(text):
        return _PART % (kind, b"7bit", text.encode().replace(b"\n", b"\r\n"))
    encoded = b2a_base64(text.encode("utf-8", "replace"), newline=False)
    return _PART % (kind, b"base64", b"\r\n".join([encoded[i : i + 76] for i in range(0, len(encoded), 76)]))


class MailTemplate:
    """What all mails of a channel share, prepared once."""

    def __init__(self, from_name: str, from_address: str, reply_to: str = "") -> None:
        self._from = mailbox(from_name, from_address)
        self._domain = from_address.rpartition("@")[2].encode("idna")
        self._fixed = b"Reply-To: " + mailbox("", reply_to) + b"\r\n" if reply_to else b""

    def message_id(self, message: Message) -> bytes:
        """The Message-ID without its brackets: the same on every attempt, so that servers and clients fold duplicates."""
        return _token(message.message_id) + b"@" + self._domain

    def fill(self, message: Message, now: datetime) -> bytes:
        """The mail, dot-stuffed, ending in CRLF; raises `HeaderRefused`."""
        content = message.content
        optional = self._fixed
        if message.thread:
            thread = _token(message.thread) + b"@" + self._domain
            optional += b"References: <" + thread + b">\r\nIn-Reply-To: <" + thread + b">\r\n"
        if content.headers:
            optional += extra_headers(content.headers)
        message_id = self.message_id(message)
        head = _HEAD % (
            self._from,
            mailbox("", message.address),
            header_value(content.title),
            date_value(now),
            message_id,
            optional,
        )
        text = body_part(b"plain", content.text)
        if content.html:
            mark = b"=_" + _token(message.message_id)
            body = _ALTERNATIVE % (mark, mark, text, mark, body_part(b"html", content.html), mark)
        else:
            body = text
        mail = head + body
        return mail.replace(b"\r\n.", b"\r\n..") if b"\r\n." in mail else mail


def extra_headers(headers: Mapping[str, str]) -> bytes:
    """Additional header lines; refuses those the template writes itself."""
    lines = []
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _OWN:
            raise HeaderRefused(f"header {name!r} may not be given")
        lines.append(name.encode() + b": " + header_value(value) + b"\r\n")
    return b"".join(lines)


def _token(text: str) -> bytes:
    """An id as it may stand in a Message-ID or boundary."""
    if text.isascii() and text.replace("-", "").isalnum():
        return text.encode()
    return re.sub(rb"[^A-Za-z0-9._-]", b"_", text.encode("utf-8", "replace"))
