"""The gateway of the demo, on a real port of this machine; and somebody who presses the link in a message."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import uvicorn

from services.gateway.app import build
from services.gateway.server import context_of
from services.notifier.sending import Job
from shared.runtime.settings import Settings

_LINK = re.compile(r"https?://[^\s/]+(/a/[\w-]+)")
_CODE = re.compile(r"(?:验证码|[Cc]ode)[\s：:]*(\d{6})")
TIMEOUT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Link:
    """What stands in a message: the path of the page, and the code that proves that the message was read."""

    path: str
    code: str


def link_in(job: Job) -> Link | None:
    """The first one-click link of a message, if it has one."""
    text = job.message.content.text
    path, code = _LINK.search(text), _CODE.search(text)
    return None if path is None or code is None else Link(path[1], code[1])


def listening() -> socket.socket:
    """A free port of this machine, listening already: who calls before the gateway answers waits in line."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    return made


@contextmanager
def gateway(settings: Settings, on: socket.socket) -> Iterator[Door]:
    """Serves the gateway's HTTP side in a thread of this process."""
    context = context_of(settings)
    context.health.start()
    config = uvicorn.Config(build(context), log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, args=([on],), name="http", daemon=True)
    thread.start()
    try:
        yield Door(on.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_SECONDS)
        context.commits.stop()
        context.health.stop()
        context.pool.shutdown(wait=False, cancel_futures=True)
        context.deps.engine.dispose()


@dataclass(frozen=True, slots=True)
class Door:
    """The gateway as a browser sees it."""

    port: int

    def press(self, link: Link) -> bool:
        """Open the page of a link and send its form with the code; whether the action was done."""
        shown, _ = self._call("GET", link.path)
        done, _ = self._call("POST", link.path, {"code": link.code})
        return shown == 200 and done == 200

    def _call(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            headers = {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
            connection.request(method, path, urlencode(form) if form is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
