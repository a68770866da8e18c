"""HTTP/1.1 as uvicorn speaks it, with our own manners where it would answer by itself, and the cheapest possible refusals.

While as much intake is under way as can be answered in time (see `admission`), a ticket is looked at here, before any request
object is made of it: an urgent one goes the usual way, any other is refused for a tenth of what it costs to take it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.admission import RETRY_AFTER, Admission

HEAD_BYTES = 64 << 10
"""Bytes of one request's line and headers together."""
HELD_BYTES = 64 << 10
"""Bodies up to here are looked at while intake is at its limit; longer ones are not urgent."""
SINGLE, BATCH = b"/v1/tickets", b"/v1/tickets/batch"


def _refusal(status: int, code: str, detail: str, *headers: bytes) -> bytes:
    document: dict[str, Any] = {
        "type": f"https://signalbox.invalid/problems/{code}",
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
    }
    body = orjson.dumps(document)
    lines = (b"content-type: application/problem+json", b"content-length: %d" % len(body), *headers, b"", body)
    return STATUS_LINE[status] + b"\r\n".join(lines)


_BUSY = _refusal(503, "overloaded", "more comes in than can be taken now", b"retry-after: " + RETRY_AFTER.encode())


def protocol(admission: Admission, urgent: Callable[[bytes], bool]) -> type[StrictProtocol]:
    """The protocol of a server whose intake is bounded by `admission`; `urgent` tells a body that may pass all the same."""
    return type("AdmittingProtocol", (StrictProtocol,), {"admission": admission, "urgent": staticmethod(urgent)})


class StrictProtocol(HttpToolsProtocol):
    """Refuses with problem documents (RFC 9457), as the calls themselves do; what is no HTTP is closed then."""

    admission: Admission
    urgent: Callable[[bytes], bool]
    _in_head = False
    _head = 0
    _held: bytearray | None = None
    """The body of a request of which nothing was passed on yet."""

    def on_message_begin(self) -> None:
        self._in_head, self._head, self._held = True, 0, None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        idle = self.cycle is None or self.cycle.response_complete
        intake = self.url in (SINGLE, BATCH) and self.parser.get_method() == b"POST"
        if self.admission.reached and intake and idle and not self.expect_100_continue:
            self._held = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        elif len(self._held) <= HELD_BYTES:
            self._held += body

    def on_message_complete(self) -> None:
        held, self._held = self._held, None
        if held is None:
            super().on_message_complete()
        elif self.url == SINGLE and len(held) <= HELD_BYTES and not self.admission.full and self.urgent(bytes(held)):
            super().on_headers_complete()
            super().on_body(bytes(held))
            super().on_message_complete()
        else:
            self.transport.write(_BUSY)
            if self.parser.should_keep_alive():
                self.on_response_complete()
            else:
                self.transport.close()

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
        self.transport.write(_refusal(status, code, detail, b"connection: close"))
        self.transport.close()
