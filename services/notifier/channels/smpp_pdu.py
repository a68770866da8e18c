"""SMPP 3.4 on the wire: PDUs, texts in GSM 7 bit or UCS-2, long texts in parts, delivery receipts. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shared.contracts.providers.receipts import Receipt, ReceiptState

HEADER = struct.Struct(">IIII")
MAX_PDU = 64 << 10

BIND_TRANSCEIVER, SUBMIT_SM, DELIVER_SM, UNBIND, ENQUIRE_LINK, GENERIC_NACK = 0x09, 0x04, 0x05, 0x06, 0x15, 0x80000000
RESPONSE = 0x80000000
TLV_PAYLOAD, TLV_RECEIPTED_ID, TLV_STATE = 0x0424, 0x001E, 0x0427
RX_T_APPN = 0x64  # we cannot store it now: send it again

_GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = {
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
    "\f": 0x0A,
}
_GSM_CODES: Mapping[str, bytes] = {char: bytes([code]) for code, char in enumerate(_GSM) if char != "\x1b"} | {
    char: bytes([0x1B, code]) for char, code in _GSM_EXTENDED.items()
}
GSM7, UCS2 = 0, 8


class Pdu(NamedTuple):
    """One message of the protocol."""

    command: int
    status: int
    sequence: int
    body: bytes


def pack(command: int, sequence: int, body: bytes = b"", status: int = 0) -> bytes:
    """A PDU's bytes."""
    return HEADER.pack(16 + len(body), command, status, sequence) + body


def unpack(buffer: bytes) -> tuple[list[Pdu], bytes]:
    """The whole PDUs in a buffer and what is left of it; raises `ValueError` for an impossible length."""
    found, at = [], 0
    while len(buffer) - at >= 16:
        size, command, status, sequence = HEADER.unpack_from(buffer, at)
        if not 16 <= size <= MAX_PDU:
            raise ValueError("a PDU of impossible length")
        if len(buffer) - at < size:
            break
        found.append(Pdu(command, status, sequence, buffer[at + 16 : at + size]))
        at += size
    return found, buffer[at:]


def c_string(text: str, limit: int) -> bytes:
    """A C-octet string; raises `ValueError` when it does not fit or holds what ASCII has not."""
    raw = text.encode("ascii")
    if len(raw) >= limit or b"\0" in raw:
        raise ValueError(f"not a string of fewer than {limit} ASCII characters")
    return raw + b"\0"


def take_c_string(body: bytes, at: int) -> tuple[str, int]:
    """A C-octet string and where the next field begins; raises `ValueError` when its end is missing."""
    end = body.index(b"\0", at)
    return body[at:end].decode("latin-1"), end + 1


def bind(system_id: str, password: str, system_type: str) -> bytes:
    """The body of bind_transceiver."""
    return c_string(system_id, 16) + c_string(password, 9) + c_string(system_type, 13) + b"\x34\x00\x00\x00"


class Address(NamedTuple):
    """Type of number, numbering plan, digits or letters."""

    ton: int
    npi: int
    text: str


def destination(number: str) -> Address:
    """International when it begins with a plus, else as it is; raises `ValueError` for what is no number."""
    if not re.fullmatch(r"\+?\d{3,20}", number):
        raise ValueError("not a telephone number")
    return Address(1, 1, number[1:]) if number.startswith("+") else Address(0, 1, number)


def source(sender: str) -> Address:
    """Letters are an alphanumeric sender, a plus is international, short digits are a short code."""
    if sender.lstrip("+").isdecimal():
        return Address(1, 1, sender[1:]) if sender.startswith("+") else Address(3 if len(sender) <= 6 else 0, 1, sender)
    return Address(5, 0, sender)


def encode_text(text: str) -> tuple[int, list[bytes]]:
    """The data coding and the pieces of a text that may not be cut: GSM 7 bit when every character has it, else UCS-2."""
    pieces = [_GSM_CODES.get(char) for char in text]
    if None not in pieces:
        return GSM7, [piece for piece in pieces if piece is not None]
    return UCS2, [char.encode("utf-16-be", "replace") for char in text]


def parts_of(text: str, reference: int) -> tuple[int, int, list[bytes]]:
    """Data coding, esm_class and the short messages of a text: one, or parts with a concatenation header (153 / 67
    characters).
    """
    coding, pieces = encode_text(text)
    single, limit = (160, 153) if coding == GSM7 else (140, 134)
    whole = b"".join(pieces)
    if len(whole) <= single:
        return coding, 0, [whole]
    parts: list[bytes] = [b""]
    for piece in pieces:
        if len(parts[-1]) + len(piece) > limit:
            parts.append(b"")
        parts[-1] += piece
    if len(parts) > 255:
        raise ValueError("a text of more than 255 parts")
    head = b"\x05\x00\x03" + bytes([reference & 0xFF, len(parts)])
    return coding, 0x40, [head + bytes([index + 1]) + part for index, part in enumerate(parts)]


def submit(sender: Address, to: Address, coding: int, esm_class: int, message: bytes, validity: str = "") -> bytes:
    """The body of submit_sm, asking for a receipt."""
    return b"".join(
        (
            b"\0",
            bytes((sender.ton, sender.npi)),
            c_string(sender.text, 21),
            bytes((to.ton, to.npi)),
            c_string(to.text, 21),
            bytes((esm_class, 0, 0)),
            b"\0",
            c_string(validity, 17),
            bytes((1, 0, coding, 0, len(message))),
            message,
        )
    )


def relative_validity(seconds: float) -> str:
    """A validity period counted from now, as SMPP writes it; at most 99 days."""
    left = int(min(max(seconds, 1), 99 * 86_400))
    days, left = divmod(left, 86_400)
    hours, left = divmod(left, 3_600)
    minutes, left = divmod(left, 60)
    return f"0000{days:02d}{hours:02d}{minutes:02d}{left:02d}000R"


def tlvs(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Optional parameters from a position to the end; stops at a cut one."""
    while len(body) - at >= 4:
        tag, size = struct.unpack_from(">HH", body, at)
        if len(body) - at - 4 < size:
            return
        yield tag, body[at + 4 : at + 4 + size]
        at += 4 + size


_TEXT = re.compile(r"id:\s*(\S+).*?stat:\s*(\w+)(?:.*?err:\s*(\S+))?", re.IGNORECASE | re.DOTALL)
_STATES = {
    "DELIVRD": ReceiptState.DELIVERED,
    "EXPIRED": ReceiptState.FAILED,
    "DELETED": ReceiptState.FAILED,
    "UNDELIV": ReceiptState.FAILED,
    "REJECTD": ReceiptState.FAILED,
}
_CODES = {2: "DELIVRD", 3: "EXPIRED", 4: "DELETED", 5: "UNDELIV", 8: "REJECTD"}


def receipt_of(body: bytes) -> Receipt | None:
    """The receipt in a deliver_sm; None for another kind of message, or a state on the way. Raises `ValueError` when
    cut.
    """
    _, at = take_c_string(body, 0)
    sender, at = take_c_string(body, at + 2)
    _, at = take_c_string(body, at + 2)
    esm_class = body[at]
    _, at = take_c_string(body, at + 3)
    _, at = take_c_string(body, at)
    size = body[at + 4]
    text = body[at + 5 : at + 5 + size].decode("latin-1")
    if esm_class & 0x3C != 0x04:
        return None
    options = dict(tlvs(body, at + 5 + size))
    found = _TEXT.search(text or options.get(TLV_PAYLOAD, b"").decode("latin-1"))
    provider_id = options.get(TLV_RECEIPTED_ID, b"").rstrip(b"\0").decode("latin-1") or (
        found.group(1) if found else ""
    )
    state = _CODES.get(options[TLV_STATE][0], "") if options.get(TLV_STATE) else found.group(2).upper() if found else ""
    if not provider_id or state not in _STATES:
        return None
    error = found.group(3) or "" if found else ""
    detail = "" if _STATES[state] is ReceiptState.DELIVERED else f"{state} {error}".strip()
    return Receipt(provider_id, _STATES[state], sender or None, None, detail, also=other_spellings(provider_id))


def other_spellings(provider_id: str) -> tuple[str, ...]:
    """The id in the other notation: many centres answer hexadecimal and report decimal."""
    found: list[str] = []
    if provider_id.isdecimal() and len(provider_id) <= 20:
        number = int(provider_id)
        found += [f"{number:x}", f"{number:X}", f"{number:08x}", f"{number:08X}"]
    if re.fullmatch(r"[0-9A-Fa-f]{1,16}", provider_id):
        found += [str(int(provider_id, 16)), f"{int(provider_id, 16):010d}"]
    return tuple(dict.fromkeys(one for one in found if one != provider_id))
