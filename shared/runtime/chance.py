"""Randomness and secrets of the machine: what pure code takes as an argument."""

from __future__ import annotations

import os
import random
import secrets
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
