"""`signalbox doctor` on a real database: healthy, and each thing that may be wrong, one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson
import pytest
from sqlalchemy import Engine

from services.control import platform, publish
from services.control.diagnosis import Finding, diagnose
from services.control.platform import RUN_ORDER
from shared.ledger import business
from shared.ledger.housekeeping import Housekeeping
from shared.runtime.loops import beat, forget
from shared.runtime.settings import Settings
from tests.support.ledger import Told, arm, lane_of, open_some


@dataclass
class Patient:
    """A system that looks as if its five services ran."""

    settings: Settings
    engine: Engine

    def findings(self) -> list[Finding]:
        return list(diagnose(self.settings))

    def bad(self) -> list[str]:
        return [one.text for one in self.findings() if one.bad]

    def execute(self, statement: str, *values: object) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement, values)


@pytest.fixture
def patient(database_url: str, redis_url: str) -> Iterator[Patient]:
    settings = replace(Settings.from_environment({}), database_url=database_url, redis_url=redis_url)
    engine = platform.engine(settings, "test")
    deps = platform.deps(settings, engine, fresh=True)
    with engine.connect() as connection:
        checked = publish.load("selected", publish.years_around(business.now(connection)))
        publish.publish(deps, connection, checked.playbook, by="test")
    lane_of(engine, Told(kind="agent")).drain()
    lane_of(engine, Told(kind="agent"), "urgent").drain()
    for service in RUN_ORDER:
        beat(service, "dispatch", 1.0)
    Housekeeping(engine, ["gateway"], []).write_heartbeats()
    for service in RUN_ORDER:
        forget(service, "dispatch")
    yield Patient(settings, engine)
    engine.dispose()


def test_a_healthy_system_has_nothing_wrong_and_every_thing_looked_at_is_named(patient: Patient) -> None:
    found = patient.findings()
    assert [one.text for one in found if one.level != "ok"] == []
    named = {one.text.partition(":")[0].split()[0] for one in found}
    assert named == {
        "redis",
        "database",
        "schema",
        "playbook",
        "service",
        "agenda",
        "quarantine",
        "orphans",
        "invariants",
    }


def test_the_command_prints_what_is_wrong_and_exits_with_1_and_0_when_nothing_is(patient: Patient) -> None:
    environment = os.environ | {
        "SIGNALBOX_DATABASE_URL": str(patient.settings.database_url),
        "SIGNALBOX_REDIS_URL": str(patient.settings.redis_url),
    }

    def doctor() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.control.cli", "doctor"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    healthy = doctor()
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert "BAD" not in healthy.stdout
    patient.execute("delete from ledger.heartbeat where service = 'sla'")
    ill = doctor()
    assert ill.returncode == 1
    assert "BAD  service sla: runs nowhere: start it with `signalbox run sla`" in ill.stdout
    assert ill.stderr == "signalbox: unhealthy: 1 thing wrong, see above\n"


def test_redis_away(patient: Patient) -> None:
    patient.settings = replace(patient.settings, redis_url="redis://127.0.0.1:1/0")
    (text,) = patient.bad()
    assert text.startswith("redis: does not answer")


def test_database_away(patient: Patient) -> None:
    patient.settings = replace(patient.settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    (text,) = patient.bad()
    assert text.startswith("database: does not answer")


def test_a_database_without_a_schema(patient: Patient, empty_database_url: str) -> None:
    patient.settings = replace(patient.settings, database_url=empty_database_url)
    assert patient.bad() == ["schema: there is none yet: run `signalbox migrate`"]


def test_a_schema_older_than_the_code(patient: Patient) -> None:
    patient.execute("update public.migration set version_num = '0003'")
    (text,) = patient.bad()
    assert text.startswith("schema: revision 0003 is older")


def test_a_schema_newer_than_the_code_is_an_upgrade_under_way(patient: Patient) -> None:
    patient.execute("update public.migration set version_num = '9999'")
    assert patient.bad() == []
    assert any(one.level == "note" and "newer" in one.text for one in patient.findings())


def test_processes_of_two_versions_are_noted(patient: Patient) -> None:
    patient.execute("update ledger.heartbeat set release = '0.0.9', worker = worker + 1 where service = 'sla'")
    (note,) = [one.text for one in patient.findings() if one.level == "note"]
    assert "several versions" in note
    assert "1 of 0.0.9" in note


def test_no_playbook(patient: Patient) -> None:
    patient.execute("delete from playbook.version")
    assert patient.bad() == ["playbook: none is published: run `signalbox apply DIR`"]


def test_a_service_that_was_killed(patient: Patient) -> None:
    patient.execute("update ledger.heartbeat set beat_at = now() - interval '5 minutes' where service = 'router'")
    (text,) = patient.bad()
    assert text.startswith("service router: stopped without saying so; last sign of life")


def test_one_silent_loop_among_others(patient: Patient) -> None:
    patient.execute(
        """insert into ledger.heartbeat (worker, service, loop, period_seconds, beat_at)
        values (99, 'notifier', 'recorder', 0.5, now() - interval '45 s')"""
    )
    (text,) = patient.bad()
    assert text.startswith("loop notifier.recorder: silent for 45 s (it comes round each 0.5 s)")


def test_a_loop_that_still_beats_in_another_process_is_not_silent(patient: Patient) -> None:
    for worker, age in ((98, "50 minutes"), (99, "1 second")):
        patient.execute(
            """insert into ledger.heartbeat (worker, service, loop, period_seconds, beat_at)
            values (%s, 'notifier', 'recorder', 0.5, now() - %s::interval)""",
            worker, age,
        )  # fmt: skip
    assert patient.bad() == []


def test_work_that_is_late(patient: Patient) -> None:
    (ticket,) = open_some(patient.engine, 1)
    arm(patient.engine, "router", [ticket], [-20])
    assert patient.bad() == []
    arm(patient.engine, "router", [ticket], [-300])
    (text,) = patient.bad()
    assert text.startswith("agenda: router.normal: 1 due, the oldest for 300")


def test_an_item_in_quarantine(patient: Patient) -> None:
    (ticket,) = open_some(patient.engine, 1)
    patient.execute("update ledger.agenda set quarantined_at = now(), error = 'ValueError: no' where id = %s", ticket)
    (text,) = patient.bad()
    assert text.startswith(f"quarantine: 1 of router, among them ticket {ticket}: ValueError: no")


def test_an_orphan(patient: Patient) -> None:
    (ticket,) = open_some(patient.engine, 1)
    patient.execute("update ledger.agenda set due_at = null where id = %s", ticket)
    (text,) = patient.bad()
    assert text == f"orphans: 1 open tickets that nobody will move, among them ticket {ticket}"


def test_a_ticket_that_was_to_be_looked_at_and_was_not(patient: Patient) -> None:
    (ticket,) = open_some(patient.engine, 1)
    patient.execute(
        """insert into escalation.ticket (ticket_id, state, mover, next_at)
        values (%s, '{}', 'li.na', now() - interval '2 minutes')""",
        ticket,
    )
    (text,) = patient.bad()
    assert text.startswith(f"orphans: 1 open tickets were to be looked at and were not, first ticket {ticket} (li.na, ")


def test_a_broken_invariant(patient: Patient) -> None:
    (ticket,) = open_some(patient.engine, 1)
    patient.execute("update ledger.event set version = 9 where kind = 'ticket' and id = %s", ticket)
    assert any(
        text.startswith(f"invariant gapless_versions: broken by 1 rows, first (ticket, {ticket}, 1, 9)")
        for text in patient.bad()
    )


def test_business_time_in_hand_is_noted(patient: Patient) -> None:
    with patient.engine.begin() as connection:
        business.freeze(connection, business.now(connection) + timedelta(hours=1))
    assert patient.bad() == []
    assert any(one.level == "note" and "in hand" in one.text for one in patient.findings())


def _schedule(patient: Patient, **members: object) -> None:
    spec = orjson.dumps({"night": {"tz": "Asia/Shanghai"} | members}).decode()
    patient.execute("update playbook.version set document = jsonb_set(document, '{document,schedules}', %s)", spec)


def test_a_schedule_that_is_covered_is_named_and_one_that_ends_within_thirty_days_is_a_gap(patient: Patient) -> None:
    begun = "2026-01-05T09:00:00+08:00"
    _schedule(patient, rotation={"type": "weekly", "start": begun, "users": ["sun.li", "ma.chao"]})
    assert "on call: schedule night is covered for the next 30 days" in [one.text for one in patient.findings()]
    assert patient.bad() == []
    with patient.engine.connect() as connection:
        now = business.now(connection)
    until = (now + timedelta(days=12)).replace(microsecond=0)
    shift = {"kind": "single", "start": "2026-01-05T09:00:00+08:00", "users": [["sun.li"]]}
    length = until - datetime.fromisoformat(begun)
    _schedule(patient, shifts=[shift | {"duration": f"{int(length.total_seconds())}s"}])
    (text,) = patient.bad()
    assert text.startswith(f"on call: schedule night: nobody is on call from {until.isoformat(timespec='minutes')} to ")


def test_somebody_on_call_who_is_away_leaves_a_gap_unless_others_or_a_delegate_stand_in(patient: Patient) -> None:
    _schedule(patient, rotation={"type": "weekly", "start": "2026-01-05T09:00:00+08:00", "users": ["sun.li"]})
    with patient.engine.connect() as connection:
        away = business.now(connection) + timedelta(days=3)
    leave = {"from_at": away.isoformat(), "to_at": (away + timedelta(days=1)).isoformat()}
    change = "update ledger.item set state = state || %s::jsonb where kind = 'agent' and key = 'sun.li'"
    patient.execute(change, orjson.dumps({"leave": [leave]}).decode())
    (text,) = patient.bad()
    assert "sun.li is on call and away" in text
    assert text.endswith("nobody stands in")
    patient.execute(change, orjson.dumps({"leave": [leave | {"delegate": "ma.chao"}]}).decode())
    assert patient.bad() == []
