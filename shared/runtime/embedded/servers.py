"""Both servers of a home, for as long as somebody uses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from shared.runtime.embedded.lock import Lease, exclusive
from shared.runtime.embedded.postgres import PostgresServer, start_postgres
from shared.runtime.embedded.valkey import ValkeyServer, start_valkey

_NO_SETTINGS: Mapping[str, str] = {}
_Server = TypeVar("_Server")


class EmbeddedServers:
    """A PostgreSQL and a Valkey: the given ones where an URL is given, else the embedded ones of `home`.

    Several processes may use one home at once, each through an object of its own; each starts what does not run and adopts what
    does. The last one to `close()` stops the servers. A process that dies counts as gone; its servers stay up
    until the next user of the home closes.
    """

    def __init__(
        self,
        home: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        fsync: bool = True,
        postgres_settings: Mapping[str, str] = _NO_SETTINGS,
        valkey_settings: Mapping[str, str] = _NO_SETTINGS,
    ) -> None:
        self.home = home.absolute()
        self.postgres: PostgresServer | None = None
        self.valkey: ValkeyServer | None = None
        self._given = (database_url, redis_url)
        self._fsync = fsync
        self._postgres_settings = postgres_settings
        self._valkey_settings = valkey_settings
        self._lease: Lease | None = None

    @property
    def database_url(self) -> str:
        """`postgresql://…` of the given or the embedded server; only after `start()`."""
        return self._given[0] or self._started(self.postgres).url

    @property
    def redis_url(self) -> str:
        """`redis://…` of the given or the embedded server; only after `start()`."""
        return self._given[1] or self._started(self.valkey).url

    def start(self) -> EmbeddedServers:
        """Start or adopt what was not given; a second call brings back a server that has died since."""
        if all(self._given):
            return self
        if self._lease is None:
            with exclusive(self._gate):
                self._lease = Lease(self.home / "users.lock")
        try:
            if not self._given[0]:
                self.postgres = start_postgres(self.home, settings=self._postgres_settings, fsync=self._fsync)
            if not self._given[1]:
                self.valkey = start_valkey(self.home, settings=self._valkey_settings)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the servers if nobody else uses this home; the Valkey first, since it holds nothing of its own."""
        if self._lease is None:
            return
        with exclusive(self._gate):
            last = self._lease.leave()
            self._lease = None
            if last:
                for server in (self.valkey, self.postgres):
                    if server is not None:
                        server.stop()

    def __enter__(self) -> EmbeddedServers:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _gate(self) -> Path:
        # Held while somebody comes or goes, so that nobody adopts a server which the last user is about to stop.
        return self.home / "gate.lock"

    @staticmethod
    def _started(server: _Server | None) -> _Server:
        if server is None:
            raise RuntimeError("call start() first")
        return server
