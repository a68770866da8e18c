"""`signalbox forecast train|publish|withdraw|show`: learn from the past how likely a promise is to be broken, and use it.

`train` reads the tickets that have ended from the database (a live one, or the one a replay has filled), and writes a model. A
published model is asked about every running clock: `breach_probability` of a ticket's clocks, the metric
`signalbox_sla_breaches_expected`, and for policies with `at_risk` the event `sla.at_risk`, for `watch` and `messages`.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

import msgspec
import orjson
from rich.progress import Progress
from sqlalchemy import Connection, Engine

from services.control import platform
from services.control.cli import Failure
from services.sla.factmaking import facts_of, standing
from services.sla.forecast import store
from services.sla.forecast.history import Life, Loads, Sample, samples_of
from services.sla.forecast.model import Forecast, load
from services.sla.forecast.training import TooLittle, train
from services.sla.handlers import library_of
from shared.ledger import business
from shared.ledger.claim import events_after
from shared.ledger.process import Deps
from shared.runtime.settings import Settings

CHUNK = 500


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser(
        "forecast",
        help="learn how likely promises are to be broken",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = one.add_subparsers(dest="verb", required=True, metavar="VERB")
    learn = verbs.add_parser("train", help="learn a model from tickets that have ended")
    learn.add_argument("--out", metavar="FILE", type=Path, help="write the model to a file")
    learn.add_argument("--publish", action="store_true", help="use it from now on")
    learn.add_argument("--tickets", type=int, default=50_000, help="at most so many, the newest (default 50000)")
    use = verbs.add_parser("publish", help="use the model of a file from now on")
    use.add_argument("file", metavar="FILE", type=Path)
    verbs.add_parser("withdraw", help="use none any more")
    verbs.add_parser("show", help="the current model's number and figures")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.verb == "train" and args.out is None and not args.publish:
        raise Failure("forecast train: say --out FILE, --publish, or both")
    model = _read(args.file) if args.verb == "publish" else None
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "forecast", worker=False)
        given = platform.deps(settings, engine, fresh=True)
        try:
            if args.verb == "train":
                model = _train(given, engine, args.tickets)
                if args.out is not None:
                    args.out.write_bytes(msgspec.json.encode(model))
                if not args.publish:
                    print(orjson.dumps(model.figures).decode())
                    return 0
            with engine.begin() as connection:
                if model is not None:
                    data, by = msgspec.json.encode(model).decode(), getpass.getuser()
                    number = store.publish(connection, data, model.figures, by)
                    print(f"published as model {number}: {orjson.dumps(model.figures).decode()}")
                elif args.verb == "withdraw":
                    store.withdraw(connection)
                    print("no model is used any more")
                else:
                    _show(connection)
        finally:
            engine.dispose()
    return 0


def _read(file: Path) -> Forecast:
    try:
        return load(file.read_bytes())
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise Failure(f"{file}: no forecast: {error}") from error


def _show(connection: Connection) -> None:
    number = store.current(connection)
    if number == 0:
        print("no model is published")
    else:
        print(f"model {number}: {orjson.dumps(load(store.read(connection, number)).figures).decode()}")


def _train(given: Deps, engine: Engine, most: int) -> Forecast:
    with Progress(transient=True, disable=not sys.stderr.isatty()) as bar:
        with engine.connect() as connection:
            ended = "select id from ledger.ticket where status in ('resolved', 'closed') order by id desc limit %s"
            ids = sorted(connection.exec_driver_sql(ended, (most,)).scalars())
            now = business.now(connection)
        task = bar.add_task("reading tickets", total=len(ids))
        lives: list[Life] = []
        numbers: set[int] = set()
        for start in range(0, len(ids), CHUNK):  # each in a transaction of its own: what is made of them takes long
            with engine.connect() as connection:
                logs = events_after(connection, "ticket", dict.fromkeys(ids[start : start + CHUNK], 0))
            for ticket_id, log in sorted(logs.items()):
                kept = standing(log)
                lives.append(Life(ticket_id, tuple(facts_of(kept, None)[0])))
                numbers |= {event.playbook for event in kept if event.playbook}
            bar.update(task, advance=len(logs))
        with engine.connect() as connection:
            library = library_of(given, connection, numbers, max(numbers, default=0))
        loads = Loads(lives, now)
        task = bar.add_task("looking at their clocks", total=len(lives))
        samples: list[Sample] = []
        for life in lives:
            samples += samples_of(life, library, loads)
            bar.update(task, advance=1)
    try:
        return train(samples)
    except TooLittle as error:
        raise Failure(f"forecast train: too little history: {error}") from error
