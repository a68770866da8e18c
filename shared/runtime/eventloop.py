"""Event loops for threads of our own: uvloop where it is installed (it comes with uvicorn); else asyncio's, at twice the cost."""

from __future__ import annotations

import asyncio

try:
    import uvloop
except ImportError:  # PyPy and Windows have none
    uvloop = None  # type: ignore[assignment, unused-ignore]


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop that runs nowhere yet."""
    return asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()
