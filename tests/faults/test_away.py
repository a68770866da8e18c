"""PostgreSQL away, Redis away, a process that only stands still: what is promised for each, with every process left alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.faults.keeper import Keeper
from tests.faults.scenario import FaultPlan, play, running
from tests.faults.verdict import assign_seconds, judge_run
from tests.faults.world import KEY, World, world
from tests.support.proxy import FaultProxy
from tests.support.wait import until

HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[World, Keeper]]:
    with world() as of_the_file, running(of_the_file) as keeper:
        yield of_the_file, keeper


def post(url: str, external_id: str, source: str = "away") -> requests.Response:
    body = {"subject": "network is down", "source": source, "external_id": external_id}
    return requests.post(f"{url}/v1/tickets", json=body, headers=HEADERS, timeout=10)


@dataclass
class Asking:
    """Somebody who posts a ticket every 50 ms, whatever the answer, and notes each."""

    url: str
    source: str
    answers: list[tuple[float, float, int, str, str]] = field(default_factory=list)
    """(instant, seconds it took, status, Retry-After, external_id); status 0: no answer."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        while not self._stop.wait(0.05):
            number += 1
            began = time.monotonic()
            try:
                answer = post(self.url, str(number), self.source)
                status, retry = answer.status_code, answer.headers.get("Retry-After", "")
            except requests.RequestException:
                status, retry = 0, ""
            self.answers.append((began, time.monotonic() - began, status, retry, str(number)))

    def stop(self) -> None:
        self._stop.set()


def away(world: World, keeper: Keeper, source: str, leave: Callable[[], None], come_back: Callable[[], None]) -> Asking:
    """Ask all the while: a second before, six seconds of absence, and until tickets are taken again."""
    pids = sorted(keeper.pids)
    asking = Asking(keeper.urls[0], source)
    thread = threading.Thread(target=asking.run)
    thread.start()
    until(lambda: sum(one[2] == 202 for one in asking.answers) >= 5, what="tickets are taken")
    leave()
    left = time.monotonic()
    until(lambda: time.monotonic() - left > 6, seconds=10)
    come_back()
    back = time.monotonic()
    until(
        lambda: any(one[2] == 202 and one[0] > back for one in asking.answers),
        seconds=10,
        what="tickets are taken again",
    )
    asking.stop()
    thread.join(15)
    gone = [one for one in asking.answers if left + 0.2 < one[0] < back - 2]
    assert gone
    assert {one[2] for one in gone} == {503}, gone
    assert all(one[3].isdigit() for one in gone), gone
    assert max(one[1] for one in asking.answers) < 2.2, sorted(asking.answers, key=lambda one: -one[1])[:3]
    # no false 2xx, nothing doubled
    there = {external for (external,) in world.rows("select external_id from ledger.ticket where source = %s", source)}
    assert {one[4] for one in asking.answers if one[2] == 202} <= there
    # at work again, by itself, within ten seconds of the return
    until(
        lambda: world.scalar("select count(*) from ledger.ticket where source = %s and assignee is null", source) == 0,
        seconds=max(0.1, back + 10 - time.monotonic()),
        what="every ticket is assigned",
    )
    assert sorted(keeper.pids) == pids
    assert keeper.strange == []
    return asking


def test_a_database_that_is_stopped(made: tuple[World, Keeper]) -> None:
    world, keeper = made
    away(world, keeper, "stopped", world.postgres.stop, world.start_postgres)


def test_a_database_that_was_killed(made: tuple[World, Keeper]) -> None:
    world, keeper = made
    away(world, keeper, "killed", world.postgres.kill, world.start_postgres)


def test_a_database_that_swallows_everything(made: tuple[World, Keeper]) -> None:
    world, keeper = made
    away(world, keeper, "swallowed", world.proxy.black_hole, world.proxy.heal)


def test_every_other_call_answers_503_too_while_the_database_is_away(made: tuple[World, Keeper]) -> None:
    world, keeper = made
    ticket = post(keeper.urls[0], "calls", "calls").json()["id"]
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/v1/tickets/{ticket}", None),
        ("GET", "/v1/tickets", None),
        ("GET", f"/v1/tickets/{ticket}/timeline", None),
        ("GET", "/v1/agents", None),
        ("GET", "/v1/deliveries", None),
        ("GET", "/readyz", None),
        ("POST", f"/v1/tickets/{ticket}/actions", {"action": "note", "text": "x"}),
        ("PATCH", "/v1/agents/boss", {"presence": "away"}),
        ("POST", "/v1/tickets/batch", {"subject": "x"}),
    ]
    world.proxy.black_hole()
    try:
        for method, path, body in calls * 2:
            began = time.monotonic()
            answer = requests.request(method, keeper.urls[0] + path, json=body, headers=HEADERS, timeout=10)
            assert (answer.status_code, method, path) == (503, method, path)
            assert answer.headers["Retry-After"].isdigit()
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert time.monotonic() - began < 2.2
        assert requests.get(f"{keeper.urls[0]}/healthz", timeout=2).status_code == 200
    finally:
        world.proxy.heal()
    until(lambda: requests.get(f"{keeper.urls[0]}/readyz", timeout=5).status_code == 200, seconds=10)


@pytest.mark.timeout(240)
def test_the_work_of_processes_that_stand_still_goes_on_in_others_within_20_s(made: tuple[World, Keeper]) -> None:
    world, keeper = made
    still = [one.pid for one in keeper.kept if one.service != "gateway" and one.pid is not None]
    assert len(still) == 4

    def stop() -> None:
        for pid in still:
            os.kill(pid, signal.SIGSTOP)

    with running(world) as second:
        try:
            _others_go_on(world, second, "still", stop)
        finally:
            for pid in still:
                os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(240)
def test_the_work_of_a_lost_host_goes_on_in_others_within_20_s(made: tuple[World, Keeper]) -> None:
    world, keeper = made
    with FaultProxy(world.postgres.url) as way, running(replace(world, proxy=way)) as second:
        try:
            _others_go_on(world, second, "lost", world.proxy.black_hole)
        finally:
            world.proxy.heal()
        until(lambda: requests.get(f"{keeper.urls[0]}/readyz", timeout=5).status_code == 200, seconds=30)


def _others_go_on(world: World, others: Keeper, source: str, lose: Callable[[], None]) -> None:
    """`lose` a part of the system under load; the `others` have what it had in hand taken over within 20 s, and finish it."""
    asking = Asking(others.urls[0], source)
    thread = threading.Thread(target=asking.run)
    thread.start()
    until(lambda: len(asking.answers) >= 10)
    lose()
    over = time.monotonic() + 20
    until(lambda: len(asking.answers) >= 40, seconds=30)
    asking.stop()
    thread.join(15)
    silent = """select t.id, t.status, t.assignee, (select array_agg(row(m.state, m.reason, m.epoch)::text) from
        notifier.message m where m.ticket_id = t.id and m.channel = 'sms') from ledger.ticket t where source = %s
        and not exists (select from notifier.message m where m.ticket_id = t.id and m.channel = 'sms' and {})"""
    # what a lost sender had in its hands is looked up before it may be sent again: taken over, not yet sent
    taken_over = silent.format("(m.state = 'sent' or m.attempts::text like '%%sender_lost%%')")
    while left := world.rows(taken_over, source):
        assert time.monotonic() < over, left[:5]
        time.sleep(0.1)
    until(lambda: not world.rows(silent.format("m.state = 'sent'"), source), seconds=20, what="all is announced")
    assert world.scalar("select count(*) from ledger.agenda where quarantined_at is not null") == 0


def test_without_redis_routing_goes_on_within_five_seconds_whatever_dies(tmp_path: Path) -> None:
    with world() as made, running(made) as keeper:
        made.valkey.kill()
        plan = FaultPlan(http=400, stream=0, seconds=15, kill_every_seconds=5, restarts=1, people=1, give_up_seconds=90)
        run = play(made, keeper, plan)
        verdict = judge_run(made, run, keeper.urls[0])
        seconds = assign_seconds(made, run)
        print(verdict.facts, f"p50 {seconds[len(seconds) // 2]:.3f} p99 {seconds[int(len(seconds) * 0.99)]:.3f}")
        assert verdict.holds, verdict.wrong


@pytest.mark.timeout(120)
def test_without_redis_and_other_faults_a_ticket_is_assigned_within_five_seconds() -> None:
    with world() as made, ExitStack() as stack:
        made.valkey.kill()  # before any service is there
        keeper = stack.enter_context(running(made))
        run = play(made, keeper, FaultPlan(http=300, stream=0, seconds=15, people=1, give_up_seconds=60))
        verdict = judge_run(made, run, keeper.urls[0])
        assert verdict.holds, verdict.wrong
        seconds = assign_seconds(made, run)
        assert len(seconds) == 300
        assert seconds[int(300 * 0.99)] <= 5
