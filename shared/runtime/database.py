"""The database engine: one pool a process, with the time-outs that keep any lock from outliving its worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

_COMMON = {
    "idle_in_transaction_session_timeout": "6s",  # a worker that hangs or is stopped loses its locks here
    "client_connection_check_interval": "2s",
    "tcp_user_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "timezone": "UTC",
    "jit": "off",
}
_WORKER = {
    # Claims never wait for a lock; what else waits, waits for a batch. Behind a stopped process it gives up, so that those who
    # wait for each other never wait longer than the first one's time-out.
    "lock_timeout": "5s",
    # The hot statements join a short list with indexed rows. On fresh tables without statistics the planner would choose
    # hash joins and scans, so the choice is made here, on the worker's own connections (measured: 3-10 x on 100k rows).
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "plan_cache_mode": "force_generic_plan",
    # A generic plan knows no instants and expects many rows: it would start processes to look at an index in which nothing is due.
    "max_parallel_workers_per_gather": "0",
}


def connect_engine(
    url: str,
    *,
    name: str,
    pool_size: int = 8,
    worker: bool = True,
    statement_timeout_seconds: float = 30.0,
    synchronous_commit: bool = True,
) -> Engine:
    """An engine on `url` (`postgresql://…`).

    Args:
        name: shown in `application_name`, after "signalbox".
        worker: planner settings for the claim and save statements; off for people's queries.
        statement_timeout_seconds: each statement is ended by the server after this long.
    """
    options = dict(_COMMON, statement_timeout=f"{int(statement_timeout_seconds * 1000)}")
    if worker:
        options |= _WORKER
    if not synchronous_commit:
        options["synchronous_commit"] = "off"
    connect_args: dict[str, Any] = {
        "options": " ".join(f"-c {key}={value}" for key, value in options.items()),
        "application_name": f"signalbox {name}",
        "connect_timeout": 3,
        "tcp_user_timeout": 6000,  # a lost host: keep-alives say nothing while something unacknowledged is on its way
        "prepare_threshold": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
    }
    engine = create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=2,
        pool_use_lifo=True,  # the warm ones again, not all of them in turn: each has its own plans and caches
        pool_recycle=1800,
        connect_args=connect_args,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )
    event.listen(engine, "engine_disposed", _hang_up)
    return engine


_looking: WeakKeyDictionary[Engine, Connection] = WeakKeyDictionary()
"""The connection of each engine whose look is over and that waits for the next one."""


@contextmanager
def looking(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements each stand alone: for looks that are taken all the time while nothing happens.

    Beginning and ending a transaction are two calls more, each as dear to an idle server as the look itself. One connection stays
    taken out of the pool and ready: taking it out, setting it up and giving it back would cost as much as the look again.
    """
    connection = _looking.pop(engine, None) or engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        yield connection
    except BaseException:
        _close(connection)
        raise
    if _looking.setdefault(engine, connection) is not connection:
        connection.close()


def _hang_up(engine: Engine) -> None:
    connection = _looking.pop(engine, None)
    if connection is not None:
        _close(connection)


def _close(connection: Connection) -> None:
    """Close what may be broken, not back into the pool."""
    with suppress(DBAPIError):
        connection.invalidate()
    connection.close()


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` with the driver named."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace("postgres://", "postgresql+psycopg://", 1)


_PASSING_STATES = ("40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300", "25P03", "25P02", "08")


def is_passing(error: BaseException) -> bool:
    """Whether a database error says nothing about the work: connection lost, deadlock, lock or statement time-out, shutdown.

    What the driver itself refuses to send (a NUL in a text) has no state either, but would be refused for ever.
    """
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated:
        return True
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(_PASSING_STATES)
