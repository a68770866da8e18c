"""Servers, sinks, proxy and playbook of one fault run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
import redis

from services.control.commands.up import prepare
from shared.runtime.embedded.postgres import PostgresServer, start_postgres
from shared.runtime.embedded.valkey import ValkeyServer, start_valkey
from shared.runtime.settings import Settings
from tests.faults import playbook
from tests.support.http_sink import Answer, HttpRequest, HttpSink
from tests.support.proxy import FaultProxy
from tests.support.servers import claimed_home
from tests.support.smtp_sink import SmtpSink

KEY = "faults-operator"
"""The administrator's key of every run."""


@dataclass
class World:
    """What a run has at hand. Services reach the database through `proxy`; the judge reaches it directly."""

    home: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    proxy: FaultProxy
    sms: HttpSink
    smtp: SmtpSink

    @property
    def environment(self) -> dict[str, str]:
        """What every service's process is given, besides its ports."""
        name, value = playbook.SMS_SECRET
        return {
            "SIGNALBOX_DATABASE_URL": self.proxy.url(self.postgres.url),
            "SIGNALBOX_REDIS_URL": self.valkey.url,
            "SIGNALBOX_HOME": str(self.home),
            "SIGNALBOX_TEST_MODE": "1",
            name: value,
        }

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The judge's own look at the database, read-only."""
        with psycopg.connect(self.postgres.url, connect_timeout=5) as connection:
            connection.read_only = True
            return connection.execute(statement, values or None).fetchall()

    def scalar(self, statement: str, *values: Any) -> Any:
        [(value,)] = self.rows(statement, *values)
        return value

    def now(self) -> datetime:
        found: datetime = self.scalar("select clock_timestamp()")
        return found

    def flush_redis(self) -> None:
        with redis.Redis.from_url(self.valkey.url, socket_timeout=5) as client:
            client.flushall()

    def restart_postgres(self, *, crash: bool) -> None:
        """Stop it, in good order or not, and start it again on the same port."""
        if crash:
            self.postgres.kill()
        else:
            self.postgres.stop()
        port = self.postgres.port
        self.start_postgres()
        assert self.postgres.port == port

    def start_postgres(self) -> None:
        self.postgres = start_postgres(self.home, fsync=False)


class SmsGateway:
    """The provider behind the SMS sink: takes every message by its own id, and says of an id whether it has it."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def answer(self, request: HttpRequest) -> Answer:
        if request.method == "GET":
            number = request.path.rpartition("/")[2]
            found = {"id": number, "status": "accepted", "provider_id": number}
            return Answer(200, orjson.dumps(found)) if number in self.taken else Answer(404)
        messages = orjson.loads(request.body)["messages"]
        self.taken |= {one["id"] for one in messages}
        results = [{"id": one["id"], "status": "accepted", "provider_id": one["id"]} for one in messages]
        return Answer(200, orjson.dumps({"results": results}))


@contextmanager
def world() -> Iterator[World]:
    """Servers of a run's own, migrated, with the faults' playbook published and `KEY` in force."""
    with ExitStack() as stack:
        home = stack.enter_context(claimed_home(f"faults-{uuid.uuid4().hex[:8]}"))
        postgres, valkey = start_postgres(home, fsync=False), start_valkey(home)
        proxy = stack.enter_context(FaultProxy(postgres.url))
        sms, smtp = stack.enter_context(HttpSink()), stack.enter_context(SmtpSink())
        sms.script("/sms/messages", then=SmsGateway().answer)
        folder = playbook.write(home / "playbook", sms_url=sms.url, smtp_url=smtp.url)
        settings = Settings.from_environment({})
        prepare(
            replace(
                settings,
                database_url=postgres.url,
                redis_url=valkey.url,
                home=home,
                playbook=str(folder),
                admin_key=KEY,
            )
        )
        yield World(home, postgres, valkey, proxy, sms, smtp)
