"""`signalbox migrate`: bring the database to this version, safe beside the previous version; make the administrator's API key
when there is none (SIGNALBOX_ADMIN_KEY, or one that is printed once)."""

from __future__ import annotations

import argparse

from services.control import firstkey, platform
from shared.runtime.migrate import upgrade
from shared.runtime.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("migrate", help="bring the database to this version", description=__doc__)
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with platform.servers(Settings.from_environment()) as settings:
        assert settings.database_url is not None
        upgrade(settings.database_url)
        engine = platform.engine(settings, "migrate", worker=False)
        with engine.connect() as connection:
            made = firstkey.ensure(connection, settings)
        engine.dispose()
    print("the database is at this version")
    if made is not None:
        print(f"API key (administrator, shown once): {made}")
    return 0
