"""Structured logs: one JSON object a line on standard error, static event names, ids instead of objects.

The trail is the log of what was recorded: one line for each event of the ledger, written by whoever committed it, with the ids of
ticket, event and correlation. It is as hot as the ledger itself, so a batch's lines are encoded straight to JSON and written at
once (2 µs a line instead of structlog's 10); a process that was not configured, or only for warnings, has none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog

from shared.runtime.clock import utc_now

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""Values of `SIGNALBOX_LOG`."""
SECRET_KEYS = frozenset({"authorization", "password", "secret", "token", "api_key", "key"})


def _redact(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    for key in SECRET_KEYS & event.keys():
        event[key] = "***"
    return event


_trail: Callable[[Sequence[dict[str, Any]]], None] | None = None


def trailing() -> bool:
    """Whether this process writes a trail: ask before making its lines."""
    return _trail is not None


def trail(lines: Sequence[dict[str, Any]]) -> None:
    """Write a line for each of these events, if this process does."""
    if _trail is not None and lines:
        _trail(lines)


def _straight(service: str) -> Callable[[Sequence[dict[str, Any]]], None]:
    """Writes whole batches of lines as JSON."""
    out = sys.stderr.buffer

    def write(lines: Sequence[dict[str, Any]]) -> None:
        frame = {"service": service, "event": "event_recorded", "level": "info"}
        stamp = {"timestamp": utc_now().isoformat().replace("+00:00", "Z")}
        out.write(b"".join(orjson.dumps(frame | line | stamp, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
        out.flush()

    return write


def _spoken(lines: Sequence[dict[str, Any]]) -> None:
    """The same for a person at a terminal."""
    speaker = structlog.get_logger()
    for line in lines:
        speaker.info("event_recorded", **line)


def configure(service: str, *, level: int = logging.INFO, human: bool = False) -> None:
    """Set up structlog for this process, and let the standard library's loggers speak through it.

    `service` is on every line, whichever thread wrote it. `human` prints coloured lines for a terminal instead of JSON.
    """
    global _trail

    def named(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        event.setdefault("service", service)
        return event

    _trail = None if level > logging.INFO else _spoken if human else _straight(service)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        named,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
        structlog.processors.format_exc_info,
    ]
    if human:
        renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        factory: Any = structlog.PrintLoggerFactory(sys.stderr)
    else:
        renderer = structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str))
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str).decode()),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
