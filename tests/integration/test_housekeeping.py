"""House-keeping on a real ledger: what is sampled, who checks the invariants, whose heartbeats are kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine

from shared.ledger import housekeeping
from shared.ledger.housekeeping import SHARE, Housekeeping, Pace, Paces
from shared.runtime.loops import beat, forget
from tests.support.ledger import Told, arm, engine_of, lane_of, open_some, scalar


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = engine_of(database_url)
    yield made
    made.dispose()


def of_router(engine: Engine) -> Housekeeping:
    return Housekeeping(engine, ["router"], ["router", "sla"])


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_lag_is_the_age_of_the_oldest_due_item_and_depth_counts_due_and_armed_ones_by_lane(engine: Engine) -> None:
    ids = open_some(engine, 3)
    arm(engine, "router", ids, [-90, -5, 3600])
    of_router(engine).sample()
    lag = shown("signalbox_agenda_oldest_due_seconds", service="router", lane="normal")
    assert lag is not None
    assert 90 <= lag < 100
    assert shown("signalbox_agenda_depth", service="router", lane="normal", state="due") == 2
    assert shown("signalbox_agenda_depth", service="router", lane="normal", state="armed") == 1
    assert shown("signalbox_agenda_oldest_due_seconds", service="router", lane="urgent") == 0
    assert shown("signalbox_agenda_oldest_due_seconds", service="sla", lane="normal") == 0


def test_quarantined_items_are_counted_and_are_no_lag(engine: Engine) -> None:
    ids = open_some(engine, 2)
    arm(engine, "router", ids, [-500, -1])
    with engine.begin() as connection:
        connection.exec_driver_sql("update ledger.agenda set quarantined_at = now() where id = %s", (ids[0],))
    of_router(engine).sample()
    assert shown("signalbox_quarantine", service="router") == 1
    assert shown("signalbox_quarantine", service="sla") == 0
    assert (shown("signalbox_agenda_oldest_due_seconds", service="router", lane="normal") or 0) < 30


def test_one_process_checks_the_invariants_and_another_takes_over_when_it_stops(engine: Engine) -> None:
    open_some(engine, 2)
    lane_of(engine, Told()).drain()
    first, second = of_router(engine), of_router(engine)
    first.check_invariants()
    assert shown("signalbox_invariant_violations", invariant="gapless_versions") == 0
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "update ledger.event set version = 7 where ctid = (select min(ctid) from ledger.event)"
        )
    second.check_invariants()
    assert shown("signalbox_invariant_violations", invariant="gapless_versions") == 0
    first.stop()
    assert shown("signalbox_invariant_violations", invariant="gapless_versions") is None
    second.check_invariants()
    assert shown("signalbox_invariant_violations", invariant="gapless_versions") == 1
    second.stop()


def test_a_leader_that_lost_its_connection_shows_nothing_until_somebody_leads_again(engine: Engine) -> None:
    keeping = of_router(engine)
    keeping.check_invariants()
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()"
        )
    with pytest.raises(Exception, match=r"terminat|closed"):
        keeping.check_invariants()
    assert shown("signalbox_invariant_violations", invariant="gapless_versions") is None
    keeping.check_invariants()
    assert shown("signalbox_invariant_violations", invariant="gapless_versions") == 0
    keeping.stop()


def test_heartbeats_say_when_each_loop_last_came_round_and_go_when_the_process_stops(engine: Engine) -> None:
    beat("router", "a-loop", 3.0)
    keeping = of_router(engine)
    keeping.write_heartbeats()
    keeping.write_heartbeats()
    age = scalar(
        engine,
        """select extract(epoch from clock_timestamp() - beat_at)::float from ledger.heartbeat
        where service = 'router' and loop = 'a-loop' and period_seconds = 3""",
    )
    assert 0 <= age < 10
    keeping.stop()
    forget("router", "a-loop")
    assert scalar(engine, "select count(*) from ledger.heartbeat") == 0


def test_a_slow_reading_is_taken_in_a_five_hundredth_of_the_time_at_most() -> None:
    pace = Pace(60.0)
    assert pace.due(0.0)
    pace.took(100.0, 100.1)
    assert not pace.due(159.0)
    assert pace.due(160.0)
    pace.took(160.0, 170.0)
    assert not pace.due(160.0 + SHARE * 10 - 1)
    assert pace.due(160.0 + SHARE * 10)


def test_all_invariants_together_take_a_five_hundredth_of_the_time_at_most_and_cheap_ones_come_soon() -> None:
    paces, costs = Paces(), {"cheap": 0.001, "dear": 2.0, "as dear": 2.0}
    spent, taken, now = 0.0, dict.fromkeys(costs, 0), 0.0
    while now < 200_000.0:
        for name, cost in costs.items():
            if paces.due(name, now):
                paces.took(name, now, now + cost)
                spent, taken[name] = spent + cost, taken[name] + 1
        now += 55.0
    assert spent <= 200_000.0 / SHARE * 1.05
    assert taken["dear"] == taken["as dear"] >= 40
    assert taken["cheap"] >= 2_500


def test_many_armed_ones_are_estimated_from_a_sample(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    arm(engine, "router", open_some(engine, 3), [3600, 3600, 7200])
    with engine.begin() as connection:
        connection.exec_driver_sql("update pg_class set reltuples = 1000000 where oid = 'ledger.agenda'::regclass")
    monkeypatch.setattr(housekeeping, "SAMPLE", 999_999)
    of_router(engine).sample()
    assert shown("signalbox_agenda_depth", service="router", lane="normal", state="armed") == 3
