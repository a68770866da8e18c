"""Randomness and secrets of the machine: what pure code takes as an argument."""

from __future__ import annotations

import os
import random
import secrets
from contextlib import suppress
from pathlib import Path


def fraction() -> float:
    """A random number in [0, 1), for jitter."""
    return random.random()


def nonce() -> str:
    """128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def environment(name: str) -> str | None:
    """The value of an environment variable that a playbook names."""
    return os.environ.get(name)


def file_text(path: str) -> str:
    """The text of a secret's file, its last line break removed. Raises `OSError`."""
    return Path(path).read_text(encoding="utf-8").removesuffix("\n")


def kept_secret(folder: Path, name: str) -> str:
    """A secret of this machine: read from `folder/name`, made there (mode 0600) by whoever comes first.

    Without the folder it lives as long as the process does.
    """
    path = folder / name
    if not folder.is_dir():
        return secrets.token_urlsafe(32)
    if not path.exists():
        draft = folder / f"{name}.{os.getpid()}.{nonce()[:8]}"
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(secrets.token_urlsafe(32), encoding="ascii")
        with suppress(FileExistsError):  # somebody else was first: theirs counts
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="ascii").strip()
