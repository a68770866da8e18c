"""Service nodes: an outside system is asked when a case comes there, and its answer decides the way on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.control import platform
from services.router.asking import fetcher
from shared.ledger.process import WorkerProcess
from shared.ticket import commands as c
from tests.support.http_sink import Answer, HttpSink
from tests.support.routing import RoutingDesk, playbook, routing_desk
from tests.support.wait import until

HOME = {"ticket": True}
ASK = {
    "name": "ask", "kind": "service", "service": "mes", "responsible": HOME,
    "next": [{"to": "mend", "when": {"enrich.mes.status": "stopped"}}, "look"],
}  # fmt: skip


@pytest.fixture
def mes() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def sections(mes: HttpSink, ask: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    asked = {
        "url": f"{mes.url}/devices/{{fields.device}}", "allow": [mes.host], "timeout": "2s", "cache": "1m",
        "default": {"status": "unknown"},
    }  # fmt: skip
    nodes = [
        {"name": "check", "responsible": HOME, "next": "ask"},
        ASK | (ask or {}),
        {"name": "mend", "responsible": HOME, "next": "z"},
        {"name": "look", "responsible": HOME, "next": "z"},
        {"name": "z", "kind": "end"},
    ]
    return playbook(
        fields={"device": {"type": "text"}},
        enrichments={"mes": asked | changes},
        flows=[{"name": "fix", "nodes": nodes}],
    )


def says(mes: HttpSink, **answer: Any) -> None:
    mes.script("/devices", then=Answer(body=json.dumps(answer).encode()))


def at(desk: RoutingDesk, ticket: int) -> list[tuple[str, int]]:
    return [(one["name"], one["visit"]) for one in desk.ticket(ticket)["nodes"]]


def opened(desk: RoutingDesk) -> int:
    return desk.open(kind="fix", fields={"device": "press-7"})


def checked(desk: RoutingDesk, ticket: int) -> str:
    """The first node is completed by its owner, who is returned."""
    owner = str(desk.owner(ticket))
    assert desk.act(ticket, c.Accept(), owner).refused is None
    assert desk.act(ticket, c.CompleteNode(node="check"), owner).refused is None
    return owner


def test_the_answer_of_that_moment_decides_and_the_owner_goes_on_without_accepting_again(
    database_url: str, mes: HttpSink
) -> None:
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        says(mes, status="stopped")
        ticket = opened(desk)
        assert mes.requests == []
        owner = checked(desk, ticket)
        assert at(desk, ticket) == [("mend", 1)]
        assert (desk.owner(ticket), desk.ticket(ticket)["status"]) == (owner, "in_progress")
        assert [one.path for one in mes.requests] == ["/devices/press-7"]
        assert desk.types(ticket).count("ticket.assigned") == 2  # nobody was given the node that the system completes
        assert desk.scalar("select count(*) from router.deferred") == 0


def test_each_case_asks_anew_once_the_kept_answer_has_expired(database_url: str, mes: HttpSink) -> None:
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        first, second, third = opened(desk), opened(desk), opened(desk)
        says(mes, status="stopped")
        checked(desk, first)
        says(mes, status="running")
        checked(desk, second)
        assert (at(desk, second), len(mes.requests)) == ([("mend", 1)], 1)  # the answer is kept for a minute
        desk.wait(seconds=61)
        checked(desk, third)
        assert (at(desk, third), len(mes.requests)) == ([("look", 1)], 2)


def test_without_an_answer_the_default_holds_when_the_time_is_up_and_not_before(
    database_url: str, mes: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        monkeypatch.setattr(fetcher.Fetcher, "ask", lambda self, questions: None)  # the process dies before it asks
        ticket = opened(desk)
        checked(desk, ticket)
        desk.wait(seconds=1.9)
        assert (at(desk, ticket), desk.owner(ticket)) == ([("ask", 1)], None)
        desk.wait(seconds=0.2)
        assert at(desk, ticket) == [("look", 1)]
        (entered, left) = [one for one in desk.timeline(ticket) if one["type"].startswith("node.") and _is_ask(one)]
        assert left["happened_at"] - entered["happened_at"] == timedelta(seconds=2)
        assert left["reason"]["enriched"]["mes"]["why"] == "no answer within 2s"


def test_what_the_system_cannot_complete_is_given_to_whoever_is_responsible(database_url: str, mes: HttpSink) -> None:
    with routing_desk(database_url, sections(mes, {"outcomes": ["good", "bad"]}), ask=True) as desk:
        says(mes, status="stopped", outcome="good")
        decided = opened(desk)
        checked(desk, decided)
        assert at(desk, decided) == [("mend", 1)]
        desk.wait(minutes=2)
        says(mes, status="stopped")
        left = opened(desk)
        checked(desk, left)
        assert at(desk, left) == [("ask", 1)]
        owner = desk.owner(left)
        assert owner is not None
        assert desk.act(left, c.CompleteNode(node="ask", outcome="bad"), owner).refused is None
        assert at(desk, left) == [("look", 1)]


def test_a_ticket_that_waits_asks_when_it_goes_on(database_url: str, mes: HttpSink) -> None:
    with routing_desk(database_url, sections(mes), ask=True) as desk:
        says(mes, status="stopped")
        ticket = opened(desk)
        desk.act(ticket, c.Pause(reason="customer"), "lee")
        desk.act(ticket, c.CompleteNode(node="check"), "lee")
        assert (at(desk, ticket), mes.requests) == ([("ask", 1)], [])
        desk.act(ticket, c.Resume(), "lee")
        assert at(desk, ticket) == [("mend", 1)]


def test_a_worker_asks_in_real_time_and_rouses_the_case(database_url: str, mes: HttpSink) -> None:
    desk = RoutingDesk(database_url, sections(mes, cache="0s"))
    desk.go_live()
    deps = platform.deps(replace(desk.deps.settings, redis_url=None), desk.database)
    process = WorkerProcess(deps, [platform.parts("router", deps)])
    process.start()
    try:
        mes.script("/devices", then=Answer(body=b'{"status": "stopped"}', delay_seconds=0.1))
        [answer] = desk.post({"kind": "fix", "fields": {"device": "press-7"}})
        assert answer.ticket is not None
        ticket = answer.ticket.id
        until(lambda: desk.owner(ticket) is not None)
        checked(desk, ticket)
        until(lambda: at(desk, ticket) == [("mend", 1)])
        assert len(mes.requests) == 1
    finally:
        process.stop()
        desk.database.dispose()


def _is_ask(event: dict[str, Any]) -> bool:
    return bool(event["data"]["node"] == "ask")
