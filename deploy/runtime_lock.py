"""Print the part of a lock file that running needs: the project's own dependencies and all that those need in turn.

    python deploy/runtime_lock.py requirements.lock pyproject.toml > runtime.lock

Which package wants which is read from the lock's own `# via` notes, so that nothing has to be installed first. What only the
extras `dev` and `channels` want is left out; the two build tools that an editable installation needs stay.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

BUILD = ("hatchling", "editables")


def blocks(lock: str) -> dict[str, str]:
    """Each package's lines (pin, hashes, notes) by its name."""
    parts = re.split(r"(?m)^(?=[a-zA-Z0-9])", lock)
    return {re.split(r"[=\[ ;@]", part, maxsplit=1)[0].lower(): part for part in parts if part.strip()}


def wanted_by(block: str) -> set[str]:
    """Who wants a package, by its `# via` notes."""
    notes = block.partition("# via")[2]
    return {
        re.split(r"[\[ (]", line.strip(" #\n"), maxsplit=1)[0].lower()
        for line in notes.splitlines()
        if line.strip(" #")
    }


def runtime(lock: str, project: str) -> str:
    """The lock's lines for everything that the project's plain dependencies reach."""
    packages = blocks(lock)
    document = tomllib.loads(project)["project"]
    named = [re.split(r"[\[<>=!~ ;]", one, maxsplit=1)[0].lower() for one in document["dependencies"]]
    wants: dict[str, set[str]] = {}
    for name, block in packages.items():
        for parent in wanted_by(block):
            wants.setdefault(parent, set()).add(name)
    reached: set[str] = set()
    todo = [*named, *BUILD]
    while todo:
        name = todo.pop()
        if name in packages and name not in reached:
            reached.add(name)
            todo += wants.get(name, ())
    missing = set(named) - reached
    if missing:
        raise SystemExit(f"runtime_lock: not in the lock: {', '.join(sorted(missing))}")
    return "".join(block for name, block in packages.items() if name in reached)


if __name__ == "__main__":
    sys.stdout.write(runtime(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text()))
