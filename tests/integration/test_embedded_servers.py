"""Real servers in one folder: started, adopted, killed and stopped, whoever the caller is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from shared.runtime.embedded.postgres import PostgresServer, find_binaries, find_postgres, start_postgres
from shared.runtime.embedded.process import EmbeddedServerError, is_alive, wait_until
from shared.runtime.embedded.servers import EmbeddedServers
from shared.runtime.embedded.valkey import ValkeyServer, find_valkey, start_valkey
from tests.support.servers import claimed_home

ROOT = Path(__file__).resolve().parents[2]
# The cases that need another identity than ours: only root has one to take, and only where the kernel lets it.
NAMESPACES = (
    shutil.which("unshare") is not None and subprocess.run(["unshare", "--user", "true"], check=False).returncode == 0
)
CALLERS = ["open folder", "closed folder", "ordinary user"] if os.geteuid() == 0 and NAMESPACES else ["open folder"]
START_BOTH = """
import signal
import sys
from pathlib import Path
from shared.runtime.embedded.servers import EmbeddedServers
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background of a shell is born ignoring it
servers = EmbeddedServers(Path(sys.argv[1]), fsync=False).start()
print(servers.database_url, servers.redis_url, flush=True)
sys.stdin.readline()
servers.close()
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[EmbeddedServers]:
    with claimed_home(f"pair-{os.getpid()}") as home, EmbeddedServers(home, fsync=False) as servers:
        yield servers


def start(home: Path, **settings: str) -> PostgresServer:
    return start_postgres(home, settings=settings, fsync=False)


def fetch(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
        return None if row is None else row[0]


def starter(home: Path, *prefix: str) -> subprocess.Popen[str]:
    """Another process that starts both servers of a home and keeps them until it is told to end, or killed."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", START_BOTH, str(home)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def urls_of(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("dynamic_shared_memory_type", "mmap"),
        ("max_connections", "200"),
        ("shared_buffers", "256MB"),
        ("jit", "off"),
        ("autovacuum_naptime", "10s"),
        ("max_wal_size", "2GB"),
        ("track_io_timing", "off"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
    ],
)
def test_the_postgres_runs_with_the_settings_of_the_system(pair: EmbeddedServers, name: str, value: str) -> None:
    assert fetch(pair.database_url, f"show {name}") == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction"), ("save", "")],
)
def test_the_valkey_keeps_all_it_was_given(pair: EmbeddedServers, name: str, value: str) -> None:
    with redis.Redis.from_url(pair.redis_url, decode_responses=True) as client:
        assert client.config_get(name)[name] == value


def test_without_the_homes_password_neither_server_answers(pair: EmbeddedServers) -> None:
    assert pair.postgres is not None
    assert pair.valkey is not None
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            host="127.0.0.1", port=pair.postgres.port, user="signalbox", password="guess", dbname="postgres"
        )
    with redis.Redis(port=pair.valkey.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    secrets = [
        pair.home / "postgres" / "password",
        pair.home / "valkey" / "password",
        pair.home / "valkey" / "valkey.conf",
    ]
    assert [path.stat().st_mode & 0o777 for path in secrets] == [0o600] * 3


def test_passwords_are_not_in_any_command_line(pair: EmbeddedServers) -> None:
    for server in (pair.postgres, pair.valkey):
        assert server is not None
        shown = subprocess.run(["ps", "-o", "args=", "-p", str(server.pid)], capture_output=True, text=True, check=True)
        password = server.url.partition("@")[0].rpartition(":")[2]
        assert len(password) > 20
        assert password not in shown.stdout


@pytest.mark.parametrize("where", CALLERS)
def test_both_start_for_whoever_calls_wherever_the_home_is(server_home: Path, where: str) -> None:
    home, prefix = server_home, list[str]()
    if where != "open folder":
        server_home.chmod(0o700)  # as below /root; nobody else may pass
        home = server_home / "inner"
    if where == "ordinary user":
        prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
    process = starter(home, *prefix)
    database_url, redis_url = urls_of(process)
    assert fetch(database_url, "select current_database()") == "signalbox"
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database_url)


def test_a_home_with_spaces_and_quotes_in_its_name_works(server_home: Path) -> None:
    with EmbeddedServers(server_home / 'it\'s a "home" of ours', fsync=False) as servers:
        assert fetch(servers.database_url, "select 1") == 1
        found = find_valkey(servers.home)
        assert found is not None
        assert servers.valkey is not None
        assert found.pid == servers.valkey.pid


def test_two_homes_run_side_by_side_and_know_nothing_of_each_other(server_home: Path) -> None:
    first, second = start(server_home / "a"), start(server_home / "b")
    with psycopg.connect(first.url) as connection:
        connection.execute("create table only_here ()")
    assert first.port != second.port
    assert fetch(second.url, "select to_regclass('only_here')") is None


def test_servers_outlive_a_killed_starter_and_are_adopted(server_home: Path) -> None:
    process = starter(server_home)
    database_url, redis_url = urls_of(process)
    before = find_postgres(server_home)
    assert before is not None
    pids = before.pid, getattr(find_valkey(server_home), "pid", None)
    process.kill()
    process.communicate()
    with EmbeddedServers(server_home) as servers:
        assert servers.postgres is not None
        assert servers.valkey is not None
        assert (servers.postgres.adopted, servers.valkey.adopted) == (True, True)
        assert (servers.postgres.pid, servers.valkey.pid) == pids
        assert (servers.database_url, servers.redis_url) == (database_url, redis_url)
    assert (find_postgres(server_home), find_valkey(server_home)) == (None, None)


def test_starters_that_come_at_once_get_one_server(server_home: Path) -> None:
    found: list[PostgresServer] = []
    threads = [threading.Thread(target=lambda: found.append(start(server_home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.pid for server in found}) == 1
    assert sorted(server.adopted for server in found) == [False, True, True, True]


def test_the_last_user_stops_the_servers_and_no_one_before(server_home: Path) -> None:
    first, second = EmbeddedServers(server_home, fsync=False).start(), EmbeddedServers(server_home, fsync=False).start()
    first.close()
    assert fetch(second.database_url, "select 1") == 1
    second.close()
    assert find_postgres(server_home) is None


def test_given_urls_win_and_leave_no_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with EmbeddedServers(home, database_url="postgresql://given/db", redis_url="redis://given/0") as servers:
        assert (servers.database_url, servers.redis_url) == ("postgresql://given/db", "redis://given/0")
    assert not home.exists()


def test_after_kill_9_with_a_client_in_a_transaction_only_the_committed_is_there(server_home: Path) -> None:
    server = start(server_home)
    with psycopg.connect(server.url, autocommit=True) as keeper:
        keeper.execute("create table kept (n int)")
        keeper.execute("insert into kept values (1)")
    client = psycopg.connect(server.url)
    client.execute("insert into kept values (2)")
    server.kill()
    again = start(server_home)
    assert again.url == server.url
    assert fetch(again.url, "select array_agg(n) from kept") == [1]
    client.close()


def test_a_backend_that_outlives_its_postmaster_does_not_stop_the_next_start(server_home: Path) -> None:
    server = start(server_home)
    client = psycopg.connect(server.url)
    pid = client.info.backend_pid
    busy = threading.Thread(target=_run_to_the_bitter_end, args=(client,))
    busy.start()
    active = f"select count(*) from pg_stat_activity where pid = {pid} and state = 'active'"
    assert wait_until(lambda: fetch(server.url, active) == 1, 10)
    server.kill()
    assert is_alive(pid)
    assert fetch(start(server_home).url, "select 1") == 1
    assert not is_alive(pid)
    busy.join()


def _run_to_the_bitter_end(client: psycopg.Connection[tuple[object, ...]]) -> None:
    with pytest.raises(psycopg.OperationalError):
        client.execute("set statement_timeout = 0; select count(*) from generate_series(1, 100000000000)")


def test_a_pid_file_that_names_a_foreign_process_is_not_believed(server_home: Path) -> None:
    postgres, valkey = start(server_home), start_valkey(server_home)
    for server, file in ((postgres, "postgres/data/postmaster.pid"), (valkey, "valkey/server.pid")):
        server.kill()
        path = server_home / file
        lines = path.read_text().splitlines() if path.exists() else [""]
        path.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        assert server.pid is None
    assert fetch(start(server_home).url, "select 1") == 1
    assert start_valkey(server_home).pid not in (None, os.getpid())


def test_valkey_has_everything_after_kill_9(server_home: Path) -> None:
    server = start_valkey(server_home)
    with redis.Redis.from_url(server.url) as client:
        for number in range(100):
            client.xadd("kept", {"n": number})
    server.kill()
    with redis.Redis.from_url(start_valkey(server_home).url) as client:
        assert client.xlen("kept") == 100


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_a_port_that_somebody_else_took_is_left_to_him(server_home: Path, kind: str) -> None:
    def run() -> PostgresServer | ValkeyServer:
        return start(server_home) if kind == "postgres" else start_valkey(server_home)

    server = run()
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)):
        assert run().port != server.port


def test_stopping_is_clean_and_may_be_repeated(server_home: Path) -> None:
    server, valkey = start(server_home), start_valkey(server_home)
    pids = [server.pid, valkey.pid]
    with psycopg.connect(server.url, autocommit=True) as client:
        client.execute("create table kept as select 1 as n")
        for running in (server, valkey, server, valkey):
            running.stop()
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    assert fetch(start(server_home).url, "select n from kept") == 1
    assert "not properly shut down" not in server.log.read_text()


def test_a_server_that_cannot_start_says_why_in_its_own_words(server_home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r'(?s)while it was starting.*"no_such_setting"'):
        start(server_home, no_such_setting="1")
    with pytest.raises(EmbeddedServerError, match=r"(?s)while it was starting.*no-such-directive"):
        start_valkey(server_home, settings={"no-such-directive": "1"})
    assert fetch(start(server_home).url, "select 1") == 1


def test_data_of_another_major_version_is_refused_with_its_name(server_home: Path) -> None:
    start(server_home).stop()
    (server_home / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 12"):
        start(server_home)


def test_missing_binaries_are_named_together_with_the_remedy(
    server_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_PG_BIN", "/no/such/folder")
    monkeypatch.setenv("SIGNALBOX_VALKEY_BIN", "/no/such/valkey")
    with pytest.raises(EmbeddedServerError, match=r"SIGNALBOX_DATABASE_URL.*/no/such/folder"):
        start(server_home)
    with pytest.raises(EmbeddedServerError, match=r"SIGNALBOX_REDIS_URL.*/no/such/valkey"):
        start_valkey(server_home)


def test_every_postgres_on_this_machine_can_be_the_embedded_one(
    server_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {find_binaries(), *Path("/usr/lib/postgresql").glob("*/bin")}
    for number, folder in enumerate(sorted(folders)):
        monkeypatch.setenv("SIGNALBOX_PG_BIN", str(folder))
        assert fetch(start(server_home / str(number)).url, "select 1") == 1
        monkeypatch.delenv("SIGNALBOX_PG_BIN")
        found = find_postgres(server_home / str(number))
        assert found is not None
        found.stop()


def test_ctrl_c_at_the_starter_does_not_reach_the_servers(server_home: Path) -> None:
    process = starter(server_home)
    database_url, _ = urls_of(process)
    os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
    process.communicate()
    assert fetch(database_url, "select 1") == 1
