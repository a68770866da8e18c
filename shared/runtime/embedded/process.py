"""Processes, logs and private files of the embedded servers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_LOG_LIMIT_BYTES = 10_000_000
_children: dict[int, subprocess.Popen[bytes]] = {}  # kept so that those which end are reaped and no zombie stays


class EmbeddedServerError(RuntimeError):
    """An embedded server could not be found, started, adopted or stopped; the text has the end of its log."""

    def __init__(self, what: str, log: Path | None = None) -> None:
        self.log = log
        end = tail(log) if log else ""
        super().__init__(f"{what}\n--- end of {log}\n{end}" if end else what)


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a server runs: words before its command line, the user for `Popen`, and the owner of its files on disk.

    `uid` and `gid` are None where the server runs as the caller does.
    """

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    file_uid: int = field(default_factory=os.geteuid)
    file_gid: int = field(default_factory=os.getegid)

    def run(self, argv: Sequence[str | Path], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end with captured output, in `/` since the caller's folder may be closed to this user."""
        return subprocess.run(
            [*self.prefix, *map(str, argv)],
            cwd="/",
            env=env,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def spawn(self, argv: Sequence[str | Path], *, log: Path, env: dict[str, str] | None = None) -> int:
        """Start a server in a session of its own, its output appended to `log`; return its process id."""
        if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*self.prefix, *map(str, argv)],
                cwd="/",
                env=env,
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _children[child.pid] = child
        return child.pid


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie; reaps it when it was a child of ours and has ended."""
    child = _children.get(pid)
    if child is not None:
        if child.poll() is None:
            return True
        del _children[pid]
        return False
    if _PROC.is_dir():
        try:
            state = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            return False
        return state not in (b"Z", b"X")
    return bool(_command(pid))


def command_of(pid: int) -> str | None:
    """The command line (or title) of a living process, words joined by spaces; None when it is gone or a zombie.

    A process has none for a moment while it replaces its program or writes its title, so an empty one is looked at again.
    """
    shown: list[str] = []

    def settled() -> bool:
        if not is_alive(pid):
            return True
        shown[:] = [_command(pid)]
        return bool(shown[0])

    wait_until(settled, 0.2, every_seconds=0.002)
    return shown[0] if shown and is_alive(pid) else None


def _command(pid: int) -> str:
    if not _PROC.is_dir():
        return subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.strip()
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def processes() -> Iterator[tuple[int, str]]:
    """Every living process of this machine that shows a command line."""
    if not _PROC.is_dir():
        shown = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=False)
        for line in shown.stdout.splitlines():
            number, _, shown_command = line.strip().partition(" ")
            yield int(number), shown_command.strip()
        return
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (command := _command(int(entry.name))):
            yield int(entry.name), command


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process that may have ended meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], bool], timeout_seconds: float, *, every_seconds: float = 0.01) -> bool:
    """Look every few milliseconds until `condition()`; return whether it came true in time."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_seconds)
    return True


def tail(path: Path, lines: int = 15, *, start: int = 0) -> str:
    """The last lines of a log after byte `start`; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(start, path.stat().st_size - 64_000))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def size_of(path: Path) -> int:
    """Bytes of a file, 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def write_private(path: Path, text: str) -> None:
    """Replace a small file as a whole, readable by its owner only; survives a crash in the middle."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_number(path: Path) -> int | None:
    """The number on the first line of a file; None when it is absent or something else."""
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
