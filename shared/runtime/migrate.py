"""Bring a database to this version of the schema, safely beside workers of the previous version.

Migrations expand, back-fill and contract in separate releases; each runs under a lock time-out, so that one which cannot get its
lock fails and is tried again instead of stopping the traffic behind it. An advisory lock lets only one process migrate.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, pool
from sqlalchemy.exc import DBAPIError

from shared.runtime.clock import pause
from shared.runtime.database import sqlalchemy_url

_ADVISORY_KEY = 0x5167_6E61
_FOLDER = Path(__file__).resolve().parents[2] / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config


def head() -> str:
    """The revision that this version of the code brings a database to."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def upgrade(database_url: str, *, lock_timeout_seconds: float = 5.0, attempts: int = 5, target: str = "head") -> None:
    """Apply the migrations that are missing up to `target`. May run from several processes at once; repeats are no-ops.

    Raises the database's error when a lock could not be had within `attempts` tries of `lock_timeout_seconds`.
    """
    engine = create_engine(sqlalchemy_url(database_url), poolclass=pool.NullPool)
    for attempt in range(1, attempts + 1):
        try:
            _upgrade_once(engine, lock_timeout_seconds, target)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03" or attempt == attempts:
                raise
            pause(attempt)


def _upgrade_once(engine: Engine, lock_timeout_seconds: float, target: str) -> None:
    config = _config()
    with engine.begin() as connection:
        connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (_ADVISORY_KEY,))
        connection.exec_driver_sql(f"set local lock_timeout = '{int(lock_timeout_seconds * 1000)}ms'")
        config.attributes["connection"] = connection
        command.upgrade(config, target)
