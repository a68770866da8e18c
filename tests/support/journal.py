"""What a load generator asked and what it was told, written down before it is believed; and the comparison with what is there.

One JSON object a line, appended with one `write` each and synced at least every 0.1 s of writing and at the end, so that the
journal outlives the generator. The judge reads nothing else of the generator.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, TypeAlias

import msgspec

Phase: TypeAlias = Literal["asked", "accepted", "refused", "unknown"]
_SYNC_SECONDS = 0.1


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line.

    Attributes:
        phase: `asked` is written before the request leaves; `accepted` and `refused` are what was answered; `unknown` is an
            attempt without an answer that means anything (time-out, reset, 5xx, 429): it may or may not have had an effect.
        source, external_id: which ticket; with `number` 1, 2, … of the attempt.
        id: the ticket's id, when accepted. status: HTTP status, 0 where there was none.
        seconds: from the request to its answer.
    """

    phase: Phase
    source: str
    external_id: str
    at: datetime
    number: int = 1
    id: str | None = None
    status: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.external_id


class Journal:
    """Appends entries; threads may share one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._synced = time.monotonic()

    def write(
        self,
        phase: Phase,
        source: str,
        external_id: str,
        *,
        number: int = 1,
        id: str | None = None,
        status: int = 0,
        seconds: float = 0.0,
        note: str = "",
    ) -> None:
        """Append one entry with the present instant."""
        entry = Entry(
            phase=phase,
            source=source,
            external_id=external_id,
            at=datetime.now(UTC),
            number=number,
            id=id,
            status=status,
            seconds=round(seconds, 6),
            note=note[:500],
        )
        with self._lock:
            os.write(self._file, msgspec.json.encode(entry) + b"\n")
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Iterator[Entry]:
    """All entries; a last line that was torn by a crash is left out, any other broken line raises."""
    lines = path.read_bytes().split(b"\n")
    for line in lines[:-1]:
        yield msgspec.json.decode(line, type=Entry)


Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """A journal, summed up by ticket."""

    asked: frozenset[Key]
    accepted: dict[Key, frozenset[str]]
    refused: dict[Key, str]
    attempts: int

    @property
    def open(self) -> frozenset[Key]:
        """Asked and never answered for good: these may be there or not."""
        return self.asked - self.accepted.keys() - self.refused.keys()


def told(entries: Iterable[Entry]) -> Told:
    """Sum up a journal. An acceptance counts more than a refusal of another attempt at the same ticket."""
    asked: set[Key] = set()
    accepted: dict[Key, set[str]] = defaultdict(set)
    refused: dict[Key, str] = {}
    attempts = 0
    for entry in entries:
        attempts += entry.phase == "asked"
        asked.add(entry.key)
        if entry.phase == "accepted":
            accepted[entry.key].add(entry.id or "")
        elif entry.phase == "refused":
            refused[entry.key] = entry.note or str(entry.status)
    refused = {key: why for key, why in refused.items() if key not in accepted}
    return Told(frozenset(asked), {key: frozenset(ids) for key, ids in accepted.items()}, refused, attempts)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong between what was told and what is there; `holds` when nothing is."""

    lost: tuple[Key, ...]
    doubled: tuple[Key, ...]
    phantom: tuple[Key, ...]
    other_id: tuple[Key, ...]
    refused_but_there: tuple[Key, ...]

    @property
    def holds(self) -> bool:
        return not (self.lost or self.doubled or self.phantom or self.other_id or self.refused_but_there)


def judge(journal: Told, found: Iterable[tuple[str, str, str]]) -> Judgement:
    """Compare with the tickets that are there, each as (source, external_id, id).

    lost: accepted, not there. doubled: there more than once. phantom: there, never asked for. other_id: the id told is not the
    one that is there, or two were told. refused_but_there: refused, and there all the same.
    """
    rows = list(found)
    times = Counter((source, external_id) for source, external_id, _ in rows)
    ids: dict[Key, set[str]] = defaultdict(set)
    for source, external_id, ticket in rows:
        ids[source, external_id].add(ticket)
    return Judgement(
        lost=tuple(sorted(key for key in journal.accepted if key not in times)),
        doubled=tuple(sorted(key for key, count in times.items() if count > 1)),
        phantom=tuple(sorted(key for key in times if key not in journal.asked)),
        other_id=tuple(sorted(key for key, one in journal.accepted.items() if key in ids and one != ids[key])),
        refused_but_there=tuple(sorted(key for key in journal.refused if key in times)),
    )
