"""`signalbox up`: every service on this machine, ready when GET /readyz is 200; Ctrl-C drains."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from services.control import firstkey, platform, publish
from services.control.cli import Failure
from services.control.supervise import Supervisor
from shared.runtime import clock, logging
from shared.runtime.migrate import upgrade
from shared.runtime.settings import Settings

READY_SECONDS = 60.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("up", help="every service on this machine", description=__doc__)
    one.add_argument(
        "--playbook", metavar="DIR|NAME", help="applied when none is published yet (default: SIGNALBOX_PLAYBOOK)"
    )
    one.add_argument("--home", metavar="DIR", help="data folder of the embedded servers (default: SIGNALBOX_HOME)")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    if args.home:
        settings = replace(settings, home=Path(args.home).absolute())
    if args.playbook:
        settings = replace(settings, playbook=args.playbook)
    logging.configure("up", level=logging.LEVELS[settings.log], human=sys.stderr.isatty())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with platform.servers(settings) as ready:
        shown = prepare(ready)
        supervisor = Supervisor(ready)
        thread = threading.Thread(target=supervisor.run, args=(stop,), name="supervisor")
        thread.start()
        try:
            _wait_ready(ready, stop)
            if not stop.is_set():
                _say(ready, shown)
            stop.wait()
        finally:
            stop.set()
            thread.join()
    return 0


def prepare(settings: Settings) -> str | None:
    """Migrate, make the administrator's key, publish the playbook when there is none. Returns a key made just now."""
    assert settings.database_url is not None
    upgrade(settings.database_url)
    engine = platform.engine(settings, "up", worker=False)
    with engine.connect() as connection:
        made = firstkey.ensure(connection, settings)
        published = connection.exec_driver_sql("select count(*) from playbook.version").scalar_one()
        connection.rollback()
        if not published:
            checked = publish.load(settings.playbook, publish.years_around(clock.utc_now()))
            for warning in checked.warnings:
                print(warning, file=sys.stderr)
            publish.publish(platform.deps(settings, engine, fresh=True), connection, checked.playbook, by="up")
    engine.dispose()
    return made


def _wait_ready(settings: Settings, stop: threading.Event) -> None:
    deadline = clock.monotonic() + READY_SECONDS
    while not stop.wait(0.1):
        try:
            with urllib.request.urlopen(f"http://{settings.http}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            if clock.monotonic() > deadline:
                raise Failure(
                    f"up: not ready after {READY_SECONDS:.0f} s; what the services say stands above"
                ) from None


def _say(settings: Settings, key: str | None) -> None:
    ports = platform.Ports(settings)
    print(f"Signalbox is up.  API   http://{settings.http}   (docs at /docs)")
    for service in platform.RUN_ORDER:
        host, port = ports.of(service)
        print(f"                  {service:<11} metrics http://{host}:{port}/metrics")
    if key is not None:
        print(f"                  API key (administrator, shown once): {key}")
    elif settings.admin_key:
        print("                  API key: the one in SIGNALBOX_ADMIN_KEY")
    else:
        print("                  API key: made at an earlier start (set SIGNALBOX_ADMIN_KEY to choose one)")
    print("Ctrl-C drains.", flush=True)
