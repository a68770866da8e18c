"""The load generators send again what was not answered, and their journal tells the judge what was promised."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import redis

from tests.support.http_sink import Answer, HttpRequest, HttpSink
from tests.support.journal import Entry, Journal, Told, judge, read, told
from tests.support.load import LoadResult, Plan, make_ticket, push_http
from tests.support.people import act_http
from tests.support.stream_load import ACCEPTED, INTAKE, REJECTED, ConfirmingProducer

# ---- journal --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal") as open_journal:
        yield open_journal


def test_a_journal_gives_back_what_was_written_and_forgives_a_torn_last_line(journal: Journal) -> None:
    journal.write("asked", "s", "1")
    journal.write("accepted", "s", "1", id="t1", status=202, seconds=0.5)
    with journal.path.open("ab") as file:
        file.write(b'{"phase": "asked", "sou')
    entries = list(read(journal.path))
    assert [(one.phase, one.key, one.id, one.status) for one in entries] == [
        ("asked", ("s", "1"), None, 0),
        ("accepted", ("s", "1"), "t1", 202),
    ]


def summary(*lines: tuple[str, str, str | None]) -> Told:
    """A journal of (phase, external id, ticket id)."""
    moment = "2026-01-01T00:00:00Z"
    raw = [{"phase": p, "source": "s", "external_id": e, "id": i, "at": moment} for p, e, i in lines]
    return told(_entry(one) for one in raw)


def _entry(raw: dict[str, Any]) -> Entry:
    return msgspec.convert(raw, Entry, strict=False)


@pytest.mark.parametrize(
    ("lines", "found", "wrong"),
    [
        ([("asked", "1", None), ("accepted", "1", "t1")], [("1", "t1")], {}),
        ([("asked", "1", None), ("accepted", "1", "t1")], [], {"lost": ["1"]}),
        (
            [("asked", "1", None), ("accepted", "1", "t1")],
            [("1", "t1"), ("1", "t2")],
            {"doubled": ["1"], "other_id": ["1"]},
        ),
        ([("asked", "1", None), ("accepted", "1", "t1"), ("accepted", "1", "t2")], [("1", "t1")], {"other_id": ["1"]}),
        ([("asked", "1", None), ("accepted", "1", "t1"), ("accepted", "1", "t1")], [("1", "t1")], {}),
        ([("asked", "1", None), ("unknown", "1", None)], [], {}),
        ([("asked", "1", None), ("unknown", "1", None)], [("1", "t1")], {}),
        ([("asked", "1", None), ("refused", "1", None)], [], {}),
        ([("asked", "1", None), ("refused", "1", None)], [("1", "t1")], {"refused_but_there": ["1"]}),
        ([], [("1", "t1")], {"phantom": ["1"]}),
    ],
)
def test_the_judge_finds_what_is_lost_doubled_or_made_up(
    lines: list[tuple[str, str, str | None]], found: list[tuple[str, str]], wrong: dict[str, list[str]]
) -> None:
    judgement = judge(summary(*lines), [("s", external_id, ticket) for external_id, ticket in found])
    named = {
        name: [external_id for _, external_id in getattr(judgement, name)]
        for name in ("lost", "doubled", "phantom", "other_id", "refused_but_there")
        if getattr(judgement, name)
    }
    assert named == wrong
    assert judgement.holds == (not wrong)


# ---- HTTP -----------------------------------------------------------------------------------------------------------------


class Intake:
    """The least that a gateway is: remembers tickets by their key, gives ids, answers as the contract says."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, str], str] = {}

    def take(self, ticket: dict[str, Any]) -> str:
        return self.ids.setdefault((ticket["source"], ticket["external_id"]), f"t{len(self.ids) + 1}")

    def answer(self, request: HttpRequest) -> Answer:
        if request.path == "/v1/tickets":
            return Answer(202, orjson.dumps({"id": self.take(orjson.loads(request.body))}))
        taken = [{"status": 202, "id": self.take(orjson.loads(line))} for line in request.body.splitlines()]
        return Answer(200, b"\n".join(map(orjson.dumps, taken)))

    def rows(self) -> list[tuple[str, str, str]]:
        return [(source, external_id, ticket) for (source, external_id), ticket in self.ids.items()]


def load(journal: Journal, plan: Plan, *first: Answer, intake: Intake) -> tuple[LoadResult, list[HttpRequest]]:
    with HttpSink() as sink:
        sink.script("/v1/tickets", *first, then=intake.answer)
        return push_http(sink.url, "key", plan, journal), sink.requests


def test_tickets_are_unlike_each_other_and_the_same_on_every_run() -> None:
    tickets = [make_ticket("load", 7, number) for number in range(200)]
    assert len({ticket["external_id"] for ticket in tickets}) == 200
    assert tickets == [make_ticket("load", 7, number) for number in range(200)]


@pytest.mark.parametrize("batch", [1, 7])
def test_every_ticket_is_settled_and_written_down(journal: Journal, batch: int) -> None:
    intake = Intake()
    result, requests = load(journal, Plan(40, batch=batch, concurrency=4), intake=intake)
    summed = told(read(journal.path))
    assert (result.accepted, result.refused, result.open, len(result.latencies)) == (40, 0, 0, 40)
    assert len(requests) == result.attempts == -(-40 // batch)
    assert len(summed.asked) == 40
    assert judge(summed, intake.rows()).holds
    assert {request.headers["authorization"] for request in requests} == {"Bearer key"}


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(503, headers={"Retry-After": "0"}),
        Answer(429, headers={"Retry-After": "0"}),
        Answer(500, b"no json"),
        Answer(202, b"no json"),
        Answer(cut=True),
        Answer(202, b'{"id": "never"}', delay_seconds=1.0),
    ],
    ids=["503", "429", "500", "no JSON", "reset", "time-out"],
)
def test_what_was_not_answered_is_sent_again_with_the_same_key(journal: Journal, trouble: Answer) -> None:
    intake = Intake()
    plan = Plan(3, concurrency=1, request_timeout_seconds=0.5)
    result, requests = load(journal, plan, trouble, intake=intake)
    assert (result.accepted, result.attempts) == (3, 4)
    assert requests[0].body == requests[1].body
    assert requests[0].headers["idempotency-key"] == requests[1].headers["idempotency-key"] == "load:1-0000000"
    assert [one.phase for one in read(journal.path)][:4] == ["asked", "unknown", "asked", "accepted"]
    assert judge(told(read(journal.path)), intake.rows()).holds


def test_a_refusal_is_final_and_written_with_its_reason(journal: Journal) -> None:
    result, _ = load(journal, Plan(2, concurrency=1), Answer(422, b'{"title": "invalid"}'), intake=Intake())
    assert (result.accepted, result.refused, result.attempts) == (1, 1, 2)
    assert told(read(journal.path)).refused == {("load", "1-0000000"): '{"title": "invalid"}'}


def test_what_is_not_settled_in_time_stays_open(journal: Journal) -> None:
    with HttpSink() as sink:
        sink.script("/", then=Answer(503, headers={"Retry-After": "0"}))
        result = push_http(sink.url, "key", Plan(2, give_up_seconds=0.3), journal)
    assert (result.accepted, result.open) == (0, 2)
    assert len(told(read(journal.path)).open) == 2


def test_a_rate_is_kept(journal: Journal) -> None:
    result, requests = load(journal, Plan(20, rate_per_second=50), intake=Intake())
    assert requests[-1].arrived_monotonic - requests[0].arrived_monotonic >= 18 / 50
    assert result.quantile(0.5) < 1.0


def test_people_act_one_thing_at_a_time_and_their_answers_are_counted() -> None:
    with HttpSink() as sink:
        sink.script("/v1/tickets/", Answer(409), Answer(503), Answer(500, b"oops"), then=Answer(200))
        acted = act_http(sink.url, "key", ["7", "8"], until=threading.Event(), people=2, actions_each=5)
        paths = {request.path for request in sink.requests}
    assert acted.statuses == {409: 1, 503: 1, 500: 1, 200: 7}
    assert paths == {"/v1/tickets/7/actions", "/v1/tickets/8/actions"}
    assert len(acted.latencies) == 8
    assert [surprise[:4] for surprise in acted.surprises] == ["500 "]


def test_people_go_home_when_told() -> None:
    until = threading.Event()
    until.set()
    assert act_http("http://127.0.0.1:9", "key", ["7"], until=until).statuses == {}


# ---- stream ---------------------------------------------------------------------------------------------------------------


@contextmanager
def consumer(
    url: str, intake: Intake, *, flush_after: int = 0, silent_for: int = 0, refuse: str = ""
) -> Iterator[None]:
    """A gateway's side of the stream; may flush the Redis once, leave the first entries unconfirmed, refuse one external id."""
    done = threading.Event()

    def run() -> None:
        client = redis.Redis.from_url(url, protocol=2, decode_responses=True)
        cursor, seen, flushed = "0-0", 0, False
        while not done.is_set():
            answer: Any = client.xread({INTAKE: cursor}, count=10, block=20)
            for _, entries in answer or []:
                for entry, members in entries:
                    cursor, seen = entry, seen + 1
                    ticket = orjson.loads(members["ticket"])
                    if ticket["external_id"] == refuse:
                        client.xadd(REJECTED, {"reason": "/subject: no", "original": members["ticket"]})
                        continue
                    number = intake.take(ticket)
                    if seen > silent_for:
                        client.xadd(ACCEPTED, {**{k: ticket[k] for k in ("source", "external_id")}, "id": number})
            if flush_after and seen >= flush_after and not flushed:
                flushed = bool(client.flushdb())
                cursor = "0-0"
        client.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "faults", [{}, {"silent_for": 15}, {"flush_after": 30}], ids=["none", "confirmations lost", "Redis flushed"]
)
def test_the_producer_sends_until_every_ticket_is_confirmed(
    redis_url: str, journal: Journal, faults: dict[str, int]
) -> None:
    intake = Intake()
    with consumer(redis_url, intake, **faults):  # type: ignore[arg-type]
        result = ConfirmingProducer(redis_url, Plan(100), journal, window=25, resend_after_seconds=0.3).run()
    assert (result.accepted, result.open) == (100, 0)
    assert len(intake.ids) == 100
    assert judge(told(read(journal.path)), intake.rows()).holds


def test_the_producer_takes_a_rejection_as_final(redis_url: str, journal: Journal) -> None:
    with consumer(redis_url, Intake(), refuse="1-0000003"):
        result = ConfirmingProducer(redis_url, Plan(5), journal).run()
    assert (result.accepted, result.refused) == (4, 1)
    assert told(read(journal.path)).refused == {("load", "1-0000003"): "/subject: no"}


def test_the_producer_stops_when_the_time_is_up_and_says_what_is_open(redis_url: str, journal: Journal) -> None:
    result = ConfirmingProducer(redis_url, Plan(5, give_up_seconds=0.5), journal, resend_after_seconds=0.1).run()
    assert (result.accepted, result.open) == (0, 5)
    assert result.attempts > 5
