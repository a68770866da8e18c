"""One message in place of many: which rows it carries, and its words. Pure.

Rows that wait with the same `gather` key are for one recipient on one channel. When their instant comes the first that is claimed
carries all the others: it keeps its id, lists them, and what becomes of it becomes of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.notifier.channels.base import Content
from services.notifier.channels.replies import clip

_SMALL = {"sms": 300, "app": 500}
BYTES = {"robot": 3_500, "chat": 2_000} | _SMALL
"""Bytes of a digest's text by channel; others have room for all lines."""


def digest(lines: Sequence[str], total: int, locale: str | None, channel: str) -> Content:
    """A message of `total` messages, of which `lines` are listed, oldest first."""
    chinese = (locale or "zh").startswith("zh")
    title = f"{total} 条消息" if chinese else f"{total} messages"
    limit = BYTES.get(channel, 100_000)
    shown: list[str] = []
    for line in lines:
        if len("\n".join([*shown, line]).encode()) > limit - 120:
            break
        shown.append(line)
    left = total - len(shown)
    rest = ([f"另有 {left} 条" if chinese else f"and {left} more"] if left else [])  # fmt: skip
    text = "\n".join([title, *(f"· {line}" for line in shown), *rest])
    return Content(title=title, text=clip(text, limit), markdown=clip(text.replace("\n", "\n\n"), limit))


def line_of(content: Content) -> str:
    """A message as one line of a digest."""
    text = (
        content.title
        if content.title and len(content.title) > 12
        else content.text or content.markdown or content.title
    )
    return " ".join(text.split())[:160]
