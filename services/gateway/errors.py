"""What a call may answer besides its result.

Problem            becomes an RFC 9457 document
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.contracts.strict import Fault


class Problem(Exception):
    """An answer that is a problem document: `status`, a stable `code`, a sentence, and the places that are wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers, self.extra = tuple(errors), headers or {}, extra or {}


def unavailable(detail: str = "the database does not answer") -> Problem:
    """503, to be tried again."""
    return Problem(503, "unavailable", detail, headers={"Retry-After": "2"})
