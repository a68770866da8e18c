"""The capacity lock under many workers: large batches wait in line before they read anything, and small ones pass by the line."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import Connection, Engine

from services.router import store
from services.router.handlers import IN_LINE
from services.router.store import Changes, Load
from shared.runtime.database import connect_engine
from tests.support.routing import playbook, routing_desk
from tests.support.wait import until

WAITS = "select backend_xmin::text from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"


def waits(connection: Connection, name: str) -> list[str | None]:
    """Oldest version that each session of this name which waits for a lock keeps alive."""
    found = [row[0] for row in connection.exec_driver_sql(WAITS, (f"signalbox {name}",))]
    connection.rollback()
    return found


def loads(engine: Engine, agents: list[str], *, in_line: bool) -> dict[str, Load]:
    with engine.begin() as connection:
        return store.lock_loads(connection, agents, in_line=in_line)


def test_who_stands_in_line_has_read_nothing_and_sees_what_the_one_before_wrote(database_url: str) -> None:
    first, second = connect_engine(database_url, name="first"), connect_engine(database_url, name="second")
    for one in (first, second):  # the second time: what a session knows of the tables it has read by then
        loads(one, ["ann", "bob"], in_line=True)
    with ThreadPoolExecutor(1) as pool, first.connect() as holder, first.connect() as watcher:
        store.lock_loads(holder, ["ann", "bob"], in_line=True)
        waiting = pool.submit(loads, second, ["ann", "bob"], in_line=True)
        until(lambda: waits(watcher, "second"), what="the second stands in line")
        assert waits(watcher, "second") == [None]
        store.save(holder, Changes(loads={"ann": Load(300, 1, 5.0)}), {})
        holder.commit()
        assert waiting.result(10) == {"ann": Load(300, 1, 5.0), "bob": Load(0, 0, 0.0)}
    first.dispose()
    second.dispose()


def test_who_does_not_stand_in_line_waits_for_nobody_in_it(database_url: str) -> None:
    first, second = connect_engine(database_url, name="first"), connect_engine(database_url, name="second")
    loads(first, ["ann", "bob"], in_line=False)
    with ThreadPoolExecutor(1) as pool, first.connect() as holder, first.connect() as watcher:
        store.lock_loads(holder, ["ann"], in_line=True)
        waiting: Future[dict[str, Load]] = pool.submit(loads, second, ["ann", "bob"], in_line=True)
        until(lambda: waits(watcher, "second"), what="the second stands in line")
        assert set(loads(first, ["bob"], in_line=False)) == {"bob"}
        assert not waiting.done()
        holder.commit()
        waiting.result(10)
    first.dispose()
    second.dispose()


def test_a_batch_of_many_new_tickets_stands_in_line_and_one_ticket_does_not(database_url: str) -> None:
    with routing_desk(database_url, playbook(agents={"lee": {"capacity": 90}}, groups={
        name: {"members": ["lee"], "lead": "lee"} for name in ("desk", "triage")
    })) as desk, desk.database.connect() as gate:  # fmt: skip
        gate.exec_driver_sql("lock table router.gate in exclusive mode")
        assert desk.owner(desk.open()) == "lee"
        desk.post(*({} for _ in range(IN_LINE)))
        batch = threading.Thread(target=desk.settle)
        batch.start()
        asked = "select count(*) from pg_locks where relation = 'router.gate'::regclass and not granted"
        until(lambda: desk.scalar(asked), what="the batch stands in line")
        gate.rollback()
        batch.join(20)
        assert desk.scalar("select count(*) from router.assignment where ended_at is null") == IN_LINE + 1
