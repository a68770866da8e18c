"""What a file is, by its first bytes: the sender's word and the file's ending count for nothing. Pure."""

from __future__ import annotations

OCTETS = "application/octet-stream"

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"OggS", "application/ogg"),
    (0, b"#!AMR", "audio/amr"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"MZ", "application/vnd.microsoft.portable-executable"),
    (0, b"\x7fELF", "application/x-executable"),
)
_RIFF = ("image/webp", "audio/wav", "video/x-msvideo")
_OFFICE = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_LOOKED_AT = 64 << 10


def media_type(data: bytes) -> str:
    """The media type of a file's content; text only where all that is looked at is UTF-8 without control characters.

    Markup is text: nothing that a browser would run is ever called what it is.
    """
    text = bool(data) and _is_text(data[:_LOOKED_AT])
    for offset, signature, kind in _SIGNATURES:
        if data.startswith(signature, offset) and (kind not in _RIFF or data.startswith(b"RIFF")):
            if text and len(signature) < 4:
                continue  # two or three letters that begin a word
            return kind
    if data.startswith(b"PK\x03\x04"):
        names = data[:_LOOKED_AT] + data[-_LOOKED_AT:]
        return next((kind for part, kind in _OFFICE if part in names), "application/zip")
    return "text/plain" if text else OCTETS


def _is_text(start: bytes) -> bool:
    if any(byte < 32 and byte not in b"\t\n\f\r" for byte in start):
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(start) == _LOOKED_AT and error.start > len(start) - 4  # a character that was cut in two
    return True
