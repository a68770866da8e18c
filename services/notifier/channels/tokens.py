"""Access tokens: fetched once for all who wait, renewed early, thrown away when the provider says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from services.notifier.errors import BadReply, NoAnswer, NotWritten

EARLY = timedelta(minutes=5)


class Token(NamedTuple):
    """A token and how long it lives from the moment it was fetched."""

    value: str
    lifetime: timedelta


class TokenCache:
    """One account's token. `fetch` may raise the errors of `services.notifier.errors`; a lost answer there sends no
    message twice.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]], now: Callable[[], datetime]) -> None:
        self._fetch = fetch
        self._now = now
        self._value = ""
        self._renew_at: datetime | None = None
        self._fetching: asyncio.Future[str] | None = None

    async def get(self) -> str:
        """A token good for at least some minutes; raises `NotWritten`, or `TokenRefused`."""
        if self._renew_at is not None and self._now() < self._renew_at:
            return self._value
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._renew())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def discard(self, value: str) -> None:
        """Forget a token the provider refused, unless it was replaced meanwhile."""
        if value == self._value:
            self._renew_at = None

    async def _renew(self) -> str:
        try:
            token = await self._fetch()
        except (NoAnswer, BadReply) as error:  # of the token call, not of a message: nothing was sent
            raise NotWritten(f"no access token: {error}") from error
        self._value = token.value
        self._renew_at = self._now() + max(token.lifetime - EARLY, token.lifetime / 2)
        return token.value

    def _fetched(self, future: asyncio.Future[str]) -> None:
        self._fetching = None
        if not future.cancelled():
            future.exception()  # everyone who waited has it; nobody may be waiting any more
