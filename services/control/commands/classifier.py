"""`signalbox classifier train|test|predict|publish|rollback|list`: learn a label from history, measure the model, ask it, use it.

`train --publish NAME` (or `publish` for a model that lies in a file) stores a model with its figures as the next
version of a name, for the rules of the playbook that say `model: {name: NAME, label: LABEL}`. `rollback` goes back to
the version before, `--to` to any.

`train` holds a tenth out when no `--dev` file is given. `predict` reads NDJSON `{"id", "text"}` and answers `{"id",
"label", "best", "confidence", "guesses"}`; `label` is null when the model abstains.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import orjson
from sqlalchemy import Engine

from services.control import platform
from services.control.cli import Failure
from services.router import model_store
from services.router.classifier.model import Answer, BadModel, Model, load
from shared.runtime.settings import Settings

csv.field_size_limit(10_000_000)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("classifier", help="learn labels from history", description=__doc__)
    verbs = one.add_subparsers(dest="verb", required=True, metavar="VERB")
    train = verbs.add_parser("train", help="learn a model")
    train.add_argument("--data", required=True, metavar="CSV", help="labelled texts; .gz is read too")
    train.add_argument("--text", required=True, metavar="COL", help="column of the text; several separated by commas")
    train.add_argument("--label", required=True, metavar="COL")
    train.add_argument("--dev", metavar="CSV", help="held-out texts of the same columns")
    train.add_argument("--out", metavar="FILE", default="model.sbm")
    train.add_argument("--publish", metavar="NAME", help="give the model to the router under this name")
    train.add_argument("--precision", type=float, default=0.95, help="wanted of answers that are given (default 0.95)")
    train.add_argument("--none", metavar="LABEL", help="rows of it belong to no label: the model learns to refuse them")
    train.add_argument(
        "--no-sense", action="store_true", help="words and characters alone, though the encoder is installed"
    )
    train.add_argument("--seed", type=int, default=0)
    test = verbs.add_parser("test", help="measure a model")
    test.add_argument("--model", required=True, metavar="FILE")
    test.add_argument("--data", required=True, metavar="CSV")
    test.add_argument("--text", required=True, metavar="COL")
    test.add_argument("--label", required=True, metavar="COL")
    predict = verbs.add_parser("predict", help="NDJSON in, NDJSON out")
    predict.add_argument("--model", required=True, metavar="FILE")
    publish = verbs.add_parser("publish", help="give a model to the router")
    publish.add_argument("--model", required=True, metavar="FILE")
    publish.add_argument("--name", required=True)
    rollback = verbs.add_parser("rollback", help="go back to an older version")
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument("--to", type=int, metavar="VERSION", help="(default: the version before the current one)")
    verbs.add_parser("list", help="published models with their figures")
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    verbs = {"train": _train, "test": _test, "predict": _predict}
    return (verbs | {"publish": _publish, "rollback": _rollback, "list": _list})[args.verb](args)


def _train(args: argparse.Namespace) -> int:
    from services.router.classifier.training import NotEnough, train

    rows = list(_rows(args.data, args.text, args.label))
    held = list(_rows(args.dev, args.text, args.label)) if args.dev else [one for one in rows if _is_held(one[0])]
    learnt = rows if args.dev else [one for one in rows if not _is_held(one[0])]
    if not 0 < args.precision <= 1:
        raise Failure("classifier: --precision is more than 0 and at most 1")
    try:
        model = train(
            [text for text, _ in learnt], [label for _, label in learnt],
            [text for text, _ in held], [label for _, label in held],
            precision=args.precision, seed=args.seed, none=args.none, senses=False if args.no_sense else None,
        )  # fmt: skip
    except NotEnough as error:
        raise Failure(f"classifier: {args.data}: {error}") from error
    Path(args.out).write_bytes(model.dumps())
    print(f"{args.out}: {_figures(dict(model.figures))}")
    if args.publish is not None:
        _give(args.publish, model)
    return 0


def _publish(args: argparse.Namespace) -> int:
    _give(args.name, _model(args.model))
    return 0


def _give(name: str, model: Model) -> None:
    with _database() as engine, engine.begin() as connection:
        version = model_store.publish(connection, name, model.dumps(), dict(model.figures), "operator")
    print(f"published {name} version {version}: {_figures(dict(model.figures))}")


def _rollback(args: argparse.Namespace) -> int:
    with _database() as engine, engine.begin() as connection:
        version = model_store.choose(connection, args.name, args.to)
    if version is None:
        wanted = "older version" if args.to is None else f"version {args.to}"
        raise Failure(f"classifier: there is no {wanted} of {args.name!r}")
    print(f"{args.name}: version {version} is current")
    return 0


def _list(args: argparse.Namespace) -> int:
    with _database() as engine, engine.connect() as connection:
        for one in model_store.all_published(connection):
            mark = "current" if one.current else "       "
            print(f"{one.name} version {one.version} {mark} {_figures(dict(one.figures))}")
    return 0


@contextmanager
def _database() -> Iterator[Engine]:
    with platform.servers(Settings.from_environment()) as settings:
        engine = platform.engine(settings, "classifier", worker=False)
        try:
            yield engine
        finally:
            engine.dispose()


def _test(args: argparse.Namespace) -> int:
    model, total, right, answered, right_answered = _model(args.model), 0, 0, 0, 0
    for text, label in _rows(args.data, args.text, args.label):
        answer = model.predict(text)
        total, right = total + 1, right + (answer.best == label)
        answered, right_answered = answered + (answer.label is not None), right_answered + (answer.label == label)
    if not total:
        raise Failure(f"classifier: {args.data}: no rows")
    figures = {
        "texts": total,
        "accuracy": right / total,
        "answered": answered / total,
        "in_scope_strict": right_answered / total,
    }
    print(_figures(figures | {"precision": right_answered / answered if answered else 0.0}))
    return 0


def _predict(args: argparse.Namespace) -> int:
    model, failed = _model(args.model), 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            asked = orjson.loads(line)
            answer = model.predict(asked["text"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"signalbox classifier: standard input:{number}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
            continue
        sys.stdout.buffer.write(orjson.dumps({"id": asked.get("id"), **_shown(answer)}) + b"\n")
    sys.stdout.buffer.flush()
    return 1 if failed else 0


def _shown(answer: Answer) -> dict[str, object]:
    guesses = [{"label": label, "confidence": confidence} for label, confidence in answer.guesses]
    return {"label": answer.label, "best": answer.best, "confidence": answer.confidence, "guesses": guesses}


def _model(path: str) -> Model:
    try:
        return load(Path(path))
    except (BadModel, OSError) as error:
        raise Failure(f"classifier: {path}: {error}") from error


def _rows(path: str, text: str, label: str) -> Iterator[tuple[str, str]]:
    columns = [one.strip() for one in text.split(",")]
    try:
        with _open(Path(path)) as source:
            reader = csv.DictReader(source)
            for column in (*columns, label):
                if column not in (reader.fieldnames or ()):
                    raise Failure(
                        f"classifier: {path}:1: no column {column!r} (there are {', '.join(reader.fieldnames or ())})"
                    )
            for row in reader:
                if row[label] is None or any(row[column] is None for column in columns):
                    raise Failure(f"classifier: {path}:{reader.line_num}: the row has fewer cells than the header")
                yield "\n".join(row[column] for column in columns), row[label]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"classifier: {path}: {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _is_held(text: str) -> bool:
    """A tenth, by the text itself: the same text never stands on both sides."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 10 == 0


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
