"""Everything that has no driver of its own, through the package `apprise`, in a small pool of threads of its own.

It is slow (milliseconds a message, a new connection each) and says only yes or no, so it is a way out and not a way
of working. Four of its schemes call an HTTP 200 with an error inside a success; each of them has a native driver, and
is refused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar
from urllib.parse import urlsplit

import apprise
import msgspec

from services.notifier.channels.base import Driver, Kind, Message, Net, Options, Outcome, accepted, failed
from services.notifier.channels.replies import clip
from services.notifier.errors import ConfigError, NotWritten

REFUSED = {"dingtalk": "dingtalk_robot", "wecombot": "wecom_robot", "feishu": "feishu_bot", "lark": "feishu_bot"}
QUEUE_FACTOR = 8
PATIENCE_SECONDS = 4.0  # how long a plug-in waits for an answer before it says no


class AppriseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`workers` bounds the threads; eight times as many messages may wait."""

    workers: int = 2


class AppriseDriver(Driver):
    """Secret `url`: one apprise URL, which holds the credentials and the recipient."""

    name = "apprise"
    channel = "robot"
    secrets = ("url",)
    settings_type: ClassVar[type[msgspec.Struct]] = AppriseSettings

    def __init__(self, options: Options, net: Net) -> None:
        super().__init__(options, net)
        settings = options.read(AppriseSettings)
        url = options.secret("url")
        scheme = urlsplit(url).scheme.lower()
        if scheme in REFUSED:
            raise ConfigError(
                f"provider {options.name}: {scheme} reports success wrongly; use the driver {REFUSED[scheme]}"
            )
        service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if service is None:
            raise ConfigError(f"provider {options.name}: apprise does not understand the url")
        self._service = service
        self._executor = ThreadPoolExecutor(settings.workers, thread_name_prefix=f"apprise-{options.name}")
        self._places = settings.workers * QUEUE_FACTOR

    async def call(self, group: Sequence[Message]) -> Sequence[Outcome]:
        if self._places <= 0:
            raise NotWritten("the pool is full")
        loop = asyncio.get_running_loop()
        content = group[0].content
        began = loop.time()
        self._places -= 1
        work = loop.run_in_executor(self._executor, self._notify, clip(content.title, 200), content.text)
        work.add_done_callback(self._left)
        try:
            async with asyncio.timeout(self.options.timeout_seconds):
                done = await asyncio.shield(work)
        except TimeoutError:
            return [failed(Kind.UNKNOWN, "timeout", "no answer in time")]
        if done:
            return [accepted()]
        slow = loop.time() - began >= PATIENCE_SECONDS * 0.9
        return [
            failed(Kind.UNKNOWN if slow else Kind.TRANSIENT, "refused", "the service said no, or could not be reached")
        ]

    def _notify(self, title: str, text: str) -> bool:
        return bool(self._service.notify(body=text, title=title))

    def _left(self, work: asyncio.Future[bool]) -> None:
        self._places += 1
        if not work.cancelled():
            work.exception()  # a plug-in that raises was seen by its caller, or nobody waits any more

    async def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
