"""Settings from the environment, validated at the start; the names are those of the public contract."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class BadSetting(ValueError):
    """A setting in the environment is not usable; the text names it and says what it should be."""


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port a server listens on."""

    host: str
    port: int

    @classmethod
    def parse(cls, name: str, text: str) -> Address:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or not 0 <= int(port) < 65_536:
            raise BadSetting(f"{name}: {text!r} is no host:port")
        return cls(host.strip("[]") or "127.0.0.1", int(port))

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All of `SIGNALBOX_*`. URLs are None where the embedded servers are to be used."""

    database_url: str | None
    redis_url: str | None
    home: Path
    playbook: str
    http: Address
    metrics: Address
    data: Path | None
    admin_key: str | None
    test_mode: bool
    public_url: str = ""
    """Where people and providers reach the gateway (`SIGNALBOX_PUBLIC_URL`); without one, its own address."""
    link_key: str | None = None
    """What one-click links are sealed with (`SIGNALBOX_LINK_KEY`), the same on every notifier host."""

    log: str = "info"
    """The least level that is logged (`SIGNALBOX_LOG`): info (with a line for each event), warning or error."""

    @property
    def public(self) -> str:
        """The public address without a slash at its end."""
        return (self.public_url or f"http://{self.http}").rstrip("/")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read and check the environment; raise `BadSetting` naming the first variable that is wrong."""
        env = os.environ if environment is None else environment
        http = Address.parse("SIGNALBOX_HTTP", env.get("SIGNALBOX_HTTP") or "127.0.0.1:8080")
        test_mode = env.get("SIGNALBOX_TEST_MODE", "") == "1"
        if test_mode and not http.is_loopback:
            raise BadSetting(
                f"SIGNALBOX_TEST_MODE: refused with the public address {http}; it would let anyone move time"
            )
        database_url = env.get("SIGNALBOX_DATABASE_URL") or None
        if database_url and not database_url.startswith(("postgresql://", "postgres://")):
            raise BadSetting("SIGNALBOX_DATABASE_URL: must begin with postgresql://")
        redis_url = env.get("SIGNALBOX_REDIS_URL") or None
        if redis_url and not redis_url.startswith(("redis://", "rediss://", "unix://", "valkey://")):
            raise BadSetting("SIGNALBOX_REDIS_URL: must begin with redis://")
        data = env.get("SIGNALBOX_DATA") or None
        log = (env.get("SIGNALBOX_LOG") or "info").lower()
        if log not in ("info", "warning", "error"):
            raise BadSetting(f"SIGNALBOX_LOG: {log!r} is none of info, warning, error")
        public_url = env.get("SIGNALBOX_PUBLIC_URL") or ""
        if public_url and not public_url.startswith(("https://", "http://")):
            raise BadSetting("SIGNALBOX_PUBLIC_URL: must begin with https:// (or http://)")
        link_key = env.get("SIGNALBOX_LINK_KEY") or None
        if link_key is not None and len(link_key) < 32:
            raise BadSetting("SIGNALBOX_LINK_KEY: at least 32 characters")
        return cls(
            database_url=database_url,
            redis_url=redis_url,
            home=Path(env.get("SIGNALBOX_HOME") or ".signalbox").absolute(),
            playbook=env.get("SIGNALBOX_PLAYBOOK") or "selected",
            http=http,
            metrics=Address.parse("SIGNALBOX_METRICS", env.get("SIGNALBOX_METRICS") or "127.0.0.1:9100"),
            data=Path(data) if data else None,
            admin_key=env.get("SIGNALBOX_ADMIN_KEY") or None,
            test_mode=test_mode,
            log=log,
            public_url=public_url,
            link_key=link_key,
        )
