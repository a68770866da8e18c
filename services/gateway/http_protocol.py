"""HTTP/1.1 as uvicorn speaks it, with our own manners where it would answer by itself: what is no HTTP, and heads without end."""

from __future__ import annotations

from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 64 << 10
"""Bytes of one request's line and headers together."""


class StrictProtocol(HttpToolsProtocol):
    """Refuses with problem documents (RFC 9457), as the calls themselves do, and then closes."""

    _in_head = False
    _head = 0

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:  # the parser keeps what it has of a header until that ends
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse(431, "headers_too_large", f"line and headers of a request may have {HEAD_BYTES:,} bytes")

    def send_400_response(self, msg: str) -> None:
        """What could not be read as HTTP."""
        self._refuse(400, "bad_request", "this is no HTTP/1.1 request that can be read")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        if self.transport.is_closing():
            return
        document: dict[str, Any] = {
            "type": f"https://signalbox.invalid/problems/{code}",
            "title": code.replace("_", " "),
            "status": status,
            "detail": detail,
        }
        body = orjson.dumps(document)
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/problem+json\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\nconnection: close\r\n\r\n"
            + body
        )
        self.transport.close()
