"""The folder of evaluation data, which is not part of the repository and named by SIGNALBOX_DATA."""

from __future__ import annotations

import csv
import gzip
import os
import warnings
from collections.abc import Iterator
from pathlib import Path


def data_folder(checked: str) -> Path | None:
    """Return the folder, or None after saying loudly that `checked` was not looked at."""
    named = os.environ.get("SIGNALBOX_DATA")
    if named and Path(named).is_dir():
        return Path(named)
    reason = f"SIGNALBOX_DATA is no folder ({named})" if named else "SIGNALBOX_DATA is not set"
    warnings.warn(f"{reason}: {checked} not checked", stacklevel=2)
    return None


def rows(file: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a gzipped CSV, all members as text."""
    with gzip.open(file, "rt", encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)
