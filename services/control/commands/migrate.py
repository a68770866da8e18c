"""`signalbox migrate`: bring the database to this version, safe beside the previous version."""

from __future__ import annotations

import argparse

from services.control import platform
from shared.runtime.migrate import upgrade
from shared.runtime.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("migrate", help="bring the database to this version", description=__doc__)
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with platform.servers(Settings.from_environment()) as settings:
        assert settings.database_url is not None
        upgrade(settings.database_url)
    print("the database is at this version")
    return 0
