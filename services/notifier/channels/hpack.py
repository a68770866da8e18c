"""Header compression of HTTP/2 (RFC 7541): a full decoder, and an encoder that indexes nothing.

Requests to push services differ in every header that is long (path, token), so an encoder's table would cost more
than it saves; it also keeps credentials out of compression state. The Huffman code is canonical, so its lengths
(appendix B) are all that is written here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

MAX_STRING = 16 << 10

# The static table (appendix A): an entry a word group, in order.
_NAMES = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|"
    ":status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|"
    "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|"
    "content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    "last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|"
    "server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)

Header = tuple[bytes, bytes]


def _static() -> tuple[Header, ...]:
    entries: list[Header] = []
    for text in _NAMES.split("|"):
        name, _, value = text.partition(" ")
        entries.append((name.encode(), value.encode()))
    return tuple(entries)


STATIC = _static()
_STATIC_NAME: dict[bytes, int] = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}
_STATIC_PAIR: dict[Header, int] = {pair: index for index, pair in enumerate(STATIC, 1) if pair[1]}

# Lengths of the codes of the symbols 0 to 255 and of the end (RFC 7541, appendix B), as `length` or `length*count`.
_LENGTHS = """
13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 7*22 8 7 8 13
19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 22 23*5 24 23 24*2 22 23
24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 22 21 23 22 23*2 20 22*3 23 22*2 23
26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2
24*2 26 23 26 27 26*2 27*5 28 27*5 26 30
"""


class HpackError(ValueError):
    """The peer's header block cannot be read; the connection is of no more use (RFC 7541, 2.3.3)."""


def _codes() -> dict[tuple[int, int], int]:
    """(length, code) -> symbol, by the canonical rule: shorter codes first, then by symbol."""
    lengths: list[int] = []
    for part in _LENGTHS.split():
        size, _, count = part.partition("*")
        lengths += [int(size)] * int(count or 1)
    table: dict[tuple[int, int], int] = {}
    code, previous = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code <<= length - previous
        table[length, code] = symbol
        code, previous = code + 1, length
    return table


_HUFFMAN = _codes()
_END = 256


def huffman_decode(data: bytes) -> bytes:
    """The text of a Huffman string; raises `HpackError` for wrong padding or an end symbol inside."""
    out = bytearray()
    code, length = 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, length = code << 1 | byte >> shift & 1, length + 1
            symbol = _HUFFMAN.get((length, code))
            if symbol is None:
                continue
            if symbol == _END:
                raise HpackError("an end symbol inside a string")
            out.append(symbol)
            code, length = 0, 0
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("wrong padding")
    return bytes(out)


class Decoder:
    """The peer's side of a connection: its dynamic table lives as long as the connection."""

    def __init__(self, max_size: int = 4096) -> None:
        self._limit = max_size
        self._max_size = max_size
        self._size = 0
        self._entries: deque[Header] = deque()

    def decode(self, block: bytes) -> list[Header]:
        """The headers of one block; raises `HpackError`."""
        found: list[Header] = []
        at = 0
        try:
            while at < len(block):
                first = block[at]
                if first & 0x80:
                    index, at = _integer(block, at, 7)
                    found.append(self._entry(index))
                elif first & 0x40:
                    header, at = self._literal(block, at, 6)
                    self._add(header)
                    found.append(header)
                elif first & 0x20:
                    size, at = _integer(block, at, 5)
                    self._resize(size)
                else:
                    header, at = self._literal(block, at, 4)
                    found.append(header)
        except IndexError as error:
            raise HpackError("a cut header block") from error
        return found

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Header, int]:
        index, at = _integer(block, at, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _entry(self, index: int) -> Header:
        if not index:
            raise HpackError("index 0")
        if index <= len(STATIC):
            return STATIC[index - 1]
        if index - len(STATIC) > len(self._entries):
            raise HpackError("an index beyond the table")
        return self._entries[index - len(STATIC) - 1]

    def _add(self, header: Header) -> None:
        self._size += len(header[0]) + len(header[1]) + 32
        self._entries.appendleft(header)
        self._evict()

    def _resize(self, size: int) -> None:
        if size > self._limit:
            raise HpackError("a table larger than allowed")
        self._max_size = size
        self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size and self._entries:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + 32


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    limit = (1 << bits) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 28:
            raise HpackError("an integer too large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    huffman = block[at] & 0x80
    size, at = _integer(block, at, 7)
    if size > MAX_STRING:
        raise HpackError("a string too large")
    raw = block[at : at + size]
    if len(raw) != size:
        raise HpackError("a cut string")
    return (huffman_decode(raw) if huffman else raw), at + size


def encode_integer(value: int, bits: int, flags: int) -> bytes:
    """An integer behind `flags` in the upper bits of its first byte."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([flags | value])
    out = bytearray([flags | limit])
    value -= limit
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(headers: Iterable[Header]) -> bytes:
    """A header block without indexing; names are lower case. `authorization` is marked never to be indexed by anyone."""
    out: list[bytes] = []
    for name, value in headers:
        pair = _STATIC_PAIR.get((name, value))
        if pair is not None:
            out.append(encode_integer(pair, 7, 0x80))
            continue
        index = _STATIC_NAME.get(name)
        flags = 0x10 if name == b"authorization" else 0x00
        if index is not None:
            out.append(encode_integer(index, 4, flags))
        else:
            out += (bytes([flags]), encode_integer(len(name), 7, 0), name)
        out += (encode_integer(len(value), 7, 0), value)
    return b"".join(out)
