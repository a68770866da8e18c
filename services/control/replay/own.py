"""A database of its own for what is played on a virtual clock, beside the real one or on a server that is thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import create_engine, pool

from shared.runtime import chance
from shared.runtime.database import sqlalchemy_url
from shared.runtime.embedded.servers import EmbeddedServers
from shared.runtime.settings import Settings

NO_REDIS = "redis://nobody"
"""Nothing is rung in a replay: no Redis is started for it."""


@contextmanager
def server(settings: Settings) -> Iterator[tuple[Settings, bool]]:
    """A PostgreSQL: the given one, that of a given home, else one in a temporary folder. Also: whether it stays."""
    stays = bool(settings.database_url or chance.environment("SIGNALBOX_HOME"))
    with tempfile.TemporaryDirectory(prefix="signalbox-") as folder:
        home = settings.home if stays else Path(folder)
        with EmbeddedServers(home, database_url=settings.database_url, redis_url=NO_REDIS, fsync=stays) as both:
            yield replace(settings, database_url=both.database_url, redis_url=None, home=home), stays


@contextmanager
def database(settings: Settings, name: str, *, keep: bool = False) -> Iterator[Settings]:
    """A database beside the settings' own, made anew; dropped at the end unless it is to be kept."""
    assert settings.database_url is not None
    admin = create_engine(sqlalchemy_url(settings.database_url), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"drop database if exists {name} with (force)")
        connection.exec_driver_sql(f"create database {name}")
    try:
        parts = urlsplit(settings.database_url)
        yield replace(settings, database_url=urlunsplit(parts._replace(path=f"/{name}")))
    finally:
        if not keep:
            with admin.connect() as connection:
                connection.exec_driver_sql(f"drop database if exists {name} with (force)")
