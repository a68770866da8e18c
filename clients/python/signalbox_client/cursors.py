"""Where a reader of topic events has come to, kept over restarts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Cursor(Protocol):
    """Loads and keeps the `sequence` of the last event that was dealt with; empty: from the beginning."""

    def load(self) -> str: ...

    def save(self, sequence: str) -> None: ...


class MemoryCursor:
    """Forgets at the end of the process."""

    def __init__(self, sequence: str = "") -> None:
        self.sequence = sequence

    def load(self) -> str:
        return self.sequence

    def save(self, sequence: str) -> None:
        self.sequence = sequence


class FileCursor:
    """A file, replaced whole each time, so that a crash leaves the old or the new value, never half of one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def load(self) -> str:
        try:
            return self.path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def save(self, sequence: str) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text(sequence, encoding="ascii")
        os.replace(fresh, self.path)
