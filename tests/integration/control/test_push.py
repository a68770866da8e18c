"""`signalbox push`: every line of a file once, what is no ticket set aside with its reason, and repeated at will."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.control import cli
from tests.integration.gateway.test_edge import BAD_BODIES
from tests.support.door import Door, open_door
from tests.support.servers import TestServers
from tests.support.wait import until

Push = Callable[[Path], tuple[int, str, str]]


@pytest.fixture(scope="module")
def door(servers: TestServers) -> Iterator[Door]:
    with servers.fresh_database() as url, open_door(url) as opened:
        yield opened


@pytest.fixture
def push(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Push:
    """Runs the command; gives its exit code and what it said on both outputs."""
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", str(door.settings.database_url))
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", "redis://127.0.0.1:1")  # away; nothing depends on it

    def run(path: Path) -> tuple[int, str, str]:
        code = cli.main(["push", str(path)])
        said = capsys.readouterr()
        return code, said.out.strip(), said.err

    return run


def lines(path: Path, *tickets: Any) -> Path:
    path.write_bytes(b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in tickets))
    return path


def count(door: Door, source: str) -> int:
    return int(door.scalar("select count(*) from ledger.ticket where source = %s", source))


def rejects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"{path}.rejected").read_bytes().splitlines()]


def test_a_file_is_pushed_whole_and_a_second_time_changes_nothing(door: Door, push: Push, tmp_path: Path) -> None:
    source = door.name("push")
    named = [{"subject": "wifi", "source": source, "external_id": str(n)} for n in range(1_200)]
    nameless = [{"subject": "the same", "source": source}] * 300
    path = lines(tmp_path / "tickets.ndjson", *named, *nameless)
    assert push(path) == (0, "1500 accepted, 0 already there, 0 rejected", "")
    assert push(path) == (0, "0 accepted, 1500 already there, 0 rejected", "")
    assert count(door, source) == 1_500
    assert not Path(f"{path}.rejected").exists()


def test_what_is_no_ticket_goes_to_the_rejects_and_the_rest_goes_on(door: Door, push: Push, tmp_path: Path) -> None:
    source = door.name("push")
    good = {"subject": "wifi", "source": source}
    bad = [(body, pointer, reason) for body, pointer, reason in BAD_BODIES if body.strip() and b"\n" not in body]
    path = lines(tmp_path / "mixed.ndjson", good, *(body for body, _, _ in bad), b"", good)
    code, said, complaint = push(path)
    assert (code, said) == (1, f"2 accepted, 0 already there, {len(bad)} rejected")
    assert complaint == f"signalbox: rejected lines are in {path}.rejected\n"
    for number, (found, (body, pointer, reason)) in enumerate(zip(rejects(path), bad, strict=True), start=2):
        assert found["line"] == number
        assert found["reason"].startswith(f"{pointer or '/'}: ")
        assert reason in found["reason"]
        assert found["original"] == body.decode("utf-8", "backslashreplace")
    assert count(door, source) == 2
    lines(path, good)
    assert push(path)[0] == 0
    assert not Path(f"{path}.rejected").exists()  # of the time before


def test_a_line_without_end_is_one_reject(door: Door, push: Push, tmp_path: Path) -> None:
    source = door.name("push")
    good = {"subject": "wifi", "source": source}
    path = lines(tmp_path / "long.ndjson", good, b'{"subject": "' + b"a" * (5 << 20) + b'"}', good)
    assert push(path)[:2] == (1, "2 accepted, 0 already there, 1 rejected")
    [found] = rejects(path)
    assert (found["line"], found["reason"]) == (2, "/: the line has more than 1,048,576 bytes")


def test_the_same_external_id_with_another_body_is_rejected(door: Door, push: Push, tmp_path: Path) -> None:
    one = {"subject": "wifi", "source": door.name("push"), "external_id": "1"}
    path = lines(tmp_path / "twice.ndjson", one, one | {"body": "more"})
    assert push(path)[:2] == (1, "1 accepted, 0 already there, 1 rejected")
    assert rejects(path)[0]["reason"] == "/external_id: came with another body before"


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_fills_nested_members_by_their_types(door: Door, push: Push, tmp_path: Path, packed: bool) -> None:
    source = door.name("push")
    path = tmp_path / ("tickets.csv.gz" if packed else "tickets.csv")
    how: dict[str, Any] = {"mode": "wt", "encoding": "utf-8-sig", "newline": ""}
    with gzip.open(path, **how) if packed else path.open(**how) as file:
        written = csv.writer(file)
        nested = ["labels.impact", "fields.amount", "fields.clinic", "requester.email", "requester.automated"]
        written.writerow(["subject", "source", "body", *nested])
        written.writerow(["打印机", source, "two\nlines", "high", "12.5", "west", "a@x.example", "yes"])
        written.writerow(["次", source, "", "", "", "", "", ""])
        written.writerow(["bad", source, "", "enormous", "", "", "", ""])
        written.writerow(["bad", source, "", "", "much", "", "", ""])
        written.writerow(["too", source, "few"])
    assert push(path)[:2] == (1, "2 accepted, 0 already there, 3 rejected")
    assert [(one["line"], one["reason"].partition(": ")[0]) for one in rejects(path)] == [
        (5, "/labels/impact"), (6, "/fields/amount"), (7, "/"),
    ]  # fmt: skip
    found = door.get(f"/v1/tickets?source={source}&q=%E6%89%93").json["items"][0]
    assert (found["fields"], found["labels"]["impact"]["value"]) == ({"amount": 12.5, "clinic": "west"}, "high")
    assert (found["requester"]["email"], found["requester"]["automated"]) == ("a@x.example", True)


def test_a_csv_with_odd_bytes_and_rows_goes_on(door: Door, push: Push, tmp_path: Path) -> None:
    source = door.name("push")
    path = tmp_path / "odd.csv"
    row = f"wifi,{source}\n".encode()
    path.write_bytes(b"subject,source\n" + row + b"\xff," + source.encode() + b"\n" + b"a\0b,x\n" + b"\n" + row)
    assert push(path)[:2] == (1, "2 accepted, 0 already there, 2 rejected")
    assert [one["reason"] for one in rejects(path)] == ["/subject: not UTF-8", "/subject: text holds a NUL character"]


def test_a_torn_archive_is_pushed_as_far_as_it_goes_and_said_so(door: Door, push: Push, tmp_path: Path) -> None:
    source = door.name("push")
    whole = lines(tmp_path / "x", *({"subject": f"wifi {n}", "source": source} for n in range(3_000))).read_bytes()
    path = tmp_path / "torn.ndjson.gz"
    path.write_bytes(gzip.compress(whole)[:-200])
    code, said, complaint = push(path)
    assert code == 1
    assert said.startswith("stopped: ")
    assert "the archive is broken after line" in complaint
    pushed = count(door, source)
    path.write_bytes(gzip.compress(whole))
    assert push(path)[:2] == (0, f"{3_000 - pushed} accepted, {pushed} already there, 0 rejected")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"subject,subject\na,b\n", "the column 'subject' stands twice"), (None, "no such file")],
)
def test_a_file_that_cannot_be_read_at_all_is_a_failure(
    push: Push, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    code, _, said = push(path)
    assert code == 1
    assert complaint in said


def test_standard_input_is_taken_each_time_anew_and_an_interrupted_push_is_repeated(door: Door, tmp_path: Path) -> None:
    source = door.name("push")
    command = [sys.executable, "-m", "services.control.cli", "push"]
    environment = {
        "SIGNALBOX_DATABASE_URL": str(door.settings.database_url),
        "SIGNALBOX_REDIS_URL": "redis://127.0.0.1:1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
        "PATH": "/usr/bin:/bin",
    }
    line = json.dumps({"subject": "wifi", "source": source}).encode()
    for _ in range(2):
        done = subprocess.run(
            [*command, "-"], input=line, env=environment, cwd=tmp_path, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, b"1 accepted, 0 already there, 0 rejected\n")
    assert count(door, source) == 2
    path = lines(tmp_path / "many.ndjson", *({"subject": f"wifi {n}", "source": f"{source}-x"} for n in range(30_000)))
    with subprocess.Popen([*command, str(path)], env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as running:
        until(lambda: count(door, f"{source}-x") > 0, seconds=30, what="some are pushed")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    before = count(door, f"{source}-x")
    assert 0 < before < 30_000
    done = subprocess.run([*command, str(path)], env=environment, cwd=tmp_path, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert count(door, f"{source}-x") == 30_000
    assert done.stdout.decode() == f"{30_000 - before} accepted, {before} already there, 0 rejected\n"
    with door.database.begin() as connection:  # nobody needs to route these
        for table in ("agenda", "event", "ticket"):
            ids = f"select id from ledger.ticket where source = '{source}-x'"
            connection.exec_driver_sql(f"delete from ledger.{table} where id in ({ids})")
