"""What an outside system says about a ticket now: its answer, a kept one, the default with its reason, or nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.router.answer_store import Answer, Deferred
from services.router.asking.fetcher import Question
from services.router.domain.answers import Enriched
from shared.playbook.routing import Enrichment


class Asker(Protocol):
    """Whoever asks outside systems; `asks` False: nobody is asked, rules go on with defaults at once."""

    asks: bool

    def refused(self, name: str) -> bool: ...

    def ask(self, questions: Sequence[Question]) -> None: ...


class Nobody:
    """Asks nobody."""

    asks = False

    def refused(self, name: str) -> bool:
        """Never refuses what is never asked."""
        return False

    def ask(self, questions: Sequence[Question]) -> None:
        """Drops the questions: nobody hears them."""


def heard(
    asker: Asker,
    name: str,
    config: Enrichment,
    url: str | None,
    answer: Answer | None,
    put_off: Deferred | None,
    now: datetime,
) -> Enriched | None:
    """What is known of the system `name` at `url`; None: it has to be asked, or has not answered yet.

    `answer`: what was last said there, by anybody, also when it has expired; `put_off`: since when the ticket waits.
    """

    def default(why: str) -> Enriched:
        return Enriched(name, config.default, "default", why, url or "")

    if url is None:
        return default("a fact that its address needs is missing")
    if not asker.asks:
        return default("nobody is asked here")
    fresh = put_off is not None and answer is not None and answer.fetched_at >= put_off.asked_at
    if answer is not None and (fresh or answer.expires_at > now):
        if answer.failure is not None:
            return default(answer.failure)
        return Enriched(name, answer.facts, "answer" if fresh else "cache", "", url)
    if put_off is not None and now >= put_off.until:
        return default(f"no answer within {config.timeout}")
    if asker.refused(name):
        return default("it failed too often, and is left alone for a while")
    return None
