"""Outside systems asked before rules decide: a real HTTP server that answers, is slow, is gone or talks nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.control import platform
from services.router.asking import fetcher
from shared.ledger.process import WorkerProcess
from tests.support.http_sink import Answer, HttpSink
from tests.support.routing import RoutingDesk, playbook, routing_desk
from tests.support.wait import until

DEVICE = {"fields": {"device": "press-7"}}


@pytest.fixture
def mes() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def sections(mes: HttpSink, **changes: Any) -> dict[str, Any]:
    asked = {
        "url": f"{mes.url}/devices/{{fields.device}}",
        "allow": [mes.host],
        "timeout": "2s",
        "cache": "1m",
        "default": {"status": "unknown"},
    }
    rules = [
        {"name": "stopped", "when": {"enrich.mes.status": "stopped"}, "then": {"priority": "1", "group": "desk"}},
        {"name": "unknown", "when": {"enrich.mes.status": "unknown"}, "then": {"priority": "3", "group": "triage"}},
        {"name": "else", "default": True, "then": {"group": "desk"}},
    ]
    return playbook(
        fields={"device": {"type": "text"}},
        enrichments={"mes": asked | changes},
        rules=[{"name": "live", "enrich": ["mes"], "rules": rules}],
    )


def status(value: Any, **members: Any) -> Answer:
    return Answer(body=json.dumps({"status": value}).encode(), **members)


def said(desk: RoutingDesk, ticket: int) -> dict[str, Any]:
    found: dict[str, Any] = desk.explain(ticket)["classification"][0]["reason"]["enriched"]["mes"]
    return found


def test_rules_decide_by_what_the_outside_system_says(database_url: str, mes: HttpSink) -> None:
    mes.script("/devices/press-7", then=status("stopped"))
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        ticket = desk.open(**DEVICE)
        assert (desk.ticket(ticket)["priority"], desk.ticket(ticket)["status"]) == ("1", "assigned")
        assert said(desk, ticket) == {
            "from": "answer",
            "facts": {"status": "stopped"},
            "url": f"{mes.url}/devices/press-7",
        }
        assert desk.scalar("select count(*) from router.deferred") == 0


def test_a_kept_answer_is_not_asked_for_again_until_it_expires(database_url: str, mes: HttpSink) -> None:
    mes.script("/devices", then=status("running"))
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        first, second = desk.open(**DEVICE), desk.open(**DEVICE)
        assert len(mes.requests) == 1
        assert (said(desk, first)["from"], said(desk, second)["from"]) == ("answer", "cache")
        desk.wait(seconds=61)
        desk.open(**DEVICE)
        assert len(mes.requests) == 2


def test_a_ticket_without_the_fact_is_not_held_up(database_url: str, mes: HttpSink) -> None:
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        ticket = desk.open()
        assert desk.ticket(ticket)["group"] == "triage"
        assert said(desk, ticket)["why"] == "a fact that its address needs is missing"
        assert mes.requests == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(status=503), "status 503"),
        (Answer(status=302, headers={"location": "http://127.0.0.1:1/"}), "status 302"),
        (Answer(body=b"<html>"), "not a JSON object"),
        (Answer(body=b"[1]"), "no JSON object"),
        (Answer(body=b'{"a": "' + b"x" * 70_000 + b'"}'), "larger than"),
        (Answer(cut=True), "Error"),
    ],
)
def test_a_wrong_answer_is_the_default_with_the_reason(
    database_url: str, mes: HttpSink, answer: Answer, why: str
) -> None:
    mes.script("/devices", then=answer)
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        ticket = desk.open(**DEVICE)
        assert desk.ticket(ticket)["priority"] == "3"
        assert said(desk, ticket)["from"] == "default"
        assert why in said(desk, ticket)["why"]


def test_where_nobody_is_asked_the_default_holds_at_once(database_url: str, mes: HttpSink) -> None:
    with routing_desk(database_url, sections(mes)) as desk:
        ticket = desk.open(**DEVICE)
        assert (desk.ticket(ticket)["group"], said(desk, ticket)["why"]) == ("triage", "nobody is asked here")
        assert mes.requests == []


def test_a_ticket_waits_for_its_budget_and_no_longer(
    database_url: str, mes: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        monkeypatch.setattr(fetcher.Fetcher, "ask", lambda self, questions: None)  # the process dies before it asks
        ticket = desk.open(**DEVICE)
        assert desk.types(ticket) == ["ticket.opened"]
        desk.wait(seconds=1.9)
        assert desk.types(ticket) == ["ticket.opened"]
        desk.wait(seconds=0.2)
        shown = desk.timeline(ticket)[1]
        assert shown["happened_at"] - desk.timeline(ticket)[0]["happened_at"] == timedelta(seconds=2)
        assert said(desk, ticket)["why"] == "no answer within 2s"


def test_what_people_do_meanwhile_stands(database_url: str, mes: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.ticket import commands as c

    with routing_desk(database_url, sections(mes), ask=True) as desk:
        monkeypatch.setattr(fetcher.Fetcher, "ask", lambda self, questions: None)
        ticket = desk.open(**DEVICE)
        desk.act(ticket, c.Set(priority="2"), "lee")
        desk.act(ticket, c.Transfer(group="desk"), "lee")
        desk.wait(seconds=3)
        shown = desk.ticket(ticket)
        assert (shown["priority"], shown["group"], shown["status"]) == ("2", "desk", "assigned")


# ---- in real time, by a worker process -------------------------------------------------------------------------------


@pytest.fixture
def live(database_url: str, mes: HttpSink) -> Iterator[RoutingDesk]:
    """A router at work in real time."""
    desk = RoutingDesk(database_url, sections(mes, timeout="1s", cache="0s"))
    desk.go_live()
    deps = platform.deps(replace(desk.deps.settings, redis_url=None), desk.database)
    process = WorkerProcess(deps, [platform.parts("router", deps)])
    process.start()
    yield desk
    process.stop()
    desk.database.dispose()


def open_now(desk: RoutingDesk, count: int = 1, device: str = "press-7") -> list[int]:
    answers = desk.post(*[{"fields": {"device": device}} for _ in range(count)])
    return [answer.ticket.id for answer in answers if answer.ticket is not None]


def routed(desk: RoutingDesk, tickets: list[int]) -> bool:
    return desk.scalar("select bool_and(status <> 'new') from ledger.ticket where id = any(%s)", tickets) is True


def seconds_to_classified(desk: RoutingDesk, ticket: int) -> float:
    opened, classified = desk.timeline(ticket)[:2]
    assert classified["type"] == "ticket.classified"
    found: float = (classified["happened_at"] - opened["happened_at"]).total_seconds()
    return found


def test_an_answer_rouses_its_tickets_long_before_the_budget_ends(live: RoutingDesk, mes: HttpSink) -> None:
    mes.script("/devices", then=status("stopped", delay_seconds=0.05))
    [ticket] = open_now(live)
    until(lambda: routed(live, [ticket]))
    assert seconds_to_classified(live, ticket) < 0.8
    assert live.ticket(ticket)["priority"] == "1"


def test_many_tickets_that_want_one_answer_ask_once(live: RoutingDesk, mes: HttpSink) -> None:
    mes.script("/devices", then=status("stopped", delay_seconds=0.3))
    tickets = open_now(live, 6)
    until(lambda: routed(live, tickets))
    assert len(mes.requests) == 1


def test_a_slow_system_holds_no_lock_and_delays_no_other_ticket(live: RoutingDesk, mes: HttpSink) -> None:
    mes.script("/devices/slow", then=status("stopped", delay_seconds=30))
    mes.script("/devices/quick", then=status("running"))
    [slow] = open_now(live, device="slow")
    until(lambda: bool(mes.to("/devices/slow")))
    [quick] = open_now(live, device="quick")
    until(lambda: routed(live, [quick]))
    assert seconds_to_classified(live, quick) < 0.8
    idle = """select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
        and state_change < clock_timestamp() - interval '100 ms'"""
    assert live.scalar(idle) == 0
    until(lambda: live.ticket(slow)["priority"] is not None)
    assert 0.9 <= seconds_to_classified(live, slow) < 2.0  # the budget is a second
    assert said(live, slow)["from"] == "default"


def test_a_dead_system_is_left_alone_after_five_failures(live: RoutingDesk, mes: HttpSink) -> None:
    mes.script("/devices", then=Answer(status=500))
    for number in range(7):
        tickets = open_now(live, device=f"d{number}")
        until(lambda wanted=tickets: live.ticket(wanted[0])["priority"] is not None)  # type: ignore[misc]
    assert len(mes.requests) == 5
    assert "left alone" in said(live, tickets[0])["why"]
    assert seconds_to_classified(live, tickets[0]) < 0.5


def test_a_worker_that_stops_leaves_no_thread_behind(database_url: str, mes: HttpSink) -> None:
    desk = RoutingDesk(database_url, sections(mes))
    before = {one.name for one in threading.enumerate()}
    part = platform.parts("router", desk.deps)
    part.background[0].start()
    part.background[0].stop()
    assert "fetcher" not in {one.name for one in threading.enumerate()} - before
    desk.database.dispose()
