"""The forecast from its history to a ticket at risk: learned by the command, shown over HTTP, heard by a chain."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.sla import metrics
from services.sla.counting import ClockCount
from services.sla.forecast.model import load
from shared.contracts.envelope import New
from shared.contracts.events import TicketResolved
from shared.ledger.tickets import lock
from tests.support.ledger import unit_on
from tests.support.promises import Promises, commands_on, promising, signalbox
from tests.support.waiting import wait_for

RULES = [
    {
        "name": "whose",
        "matches": "first",
        "rules": [
            {"name": "gold", "when": {"fields.contract": "gold"}, "then": {"group": "one"}},
            {"name": "rest", "default": True, "then": {"group": "two"}},
        ],
    }
]
SECTIONS = {
    "rules": RULES,
    "sla": [{"name": "p", "targets": {"resolution": "10h"}, "warn": ["30m"], "at_risk": 0.8}],
    "chains": [{"name": "up", "steps": [{"targets": [{"manager": 1}]}]}],
    "watch": [{"on": "sla.at_risk", "chain": "up"}],
}


def lived(desk: Promises, rounds: int) -> None:
    """Group one resolves within the hour; group two is always late, but for one ticket in ten."""
    for _ in range(rounds):
        quick = desk.open_many([{"fields": {"contract": "gold"}}] * 20)
        slow = desk.open_many([{"fields": {"contract": "basic"}}] * 20)
        desk.wait(hours=1)
        resolve(desk, [*quick, *slow[:2]])
        desk.wait(hours=11)
        resolve(desk, slow[2:])


def resolve(desk: Promises, ids: list[int]) -> None:
    """Many at once, in one transaction."""
    with desk.database.begin() as connection:
        unit = unit_on(connection)
        for ticket in lock(connection, ids).values():
            unit.append_to_ticket(ticket, (New(TicketResolved()),))
        unit.flush()
    desk.settle()


def test_a_forecast_is_learned_published_shown_counted_and_heard_before_the_warning(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands_on(database_url, monkeypatch)
    with promising(database_url, tmp_path, **SECTIONS) as desk:
        assert signalbox("forecast", "train", "--publish") == 1
        assert "too little history: 0 ended clocks" in capsys.readouterr().err
        lived(desk, 8)
        before = desk.post(fields={"contract": "basic"})
        assert desk.clocks(before)["resolution", 1]["breach_probability"] is None
        file = tmp_path / "model.json"
        assert signalbox("forecast", "train", "--out", str(file), "--publish") == 0
        figures = load(file.read_bytes()).figures
        assert (figures["clocks"], figures["breached"]) == (320, 144)
        assert figures["held_out_brier"] < 0.5 * figures["held_out_brier_of_base_rate"]

        wait_for(lambda: desk.clocks(desk.post())["resolution", 1]["breach_probability"] is not None)
        opened = desk.now
        fine, *_ = map(str, desk.open_many([{"fields": {"contract": "gold"}}] * 20))
        bad, *_ = map(str, desk.open_many([{"fields": {"contract": "basic"}}] * 20))
        chance = {one: desk.clocks(one)["resolution", 1]["breach_probability"] for one in (fine, bad)}
        assert chance[fine] < 0.35 < 0.65 < chance[bad], chance
        desk.wait(hours=4)
        (told,) = desk.events(bad, "sla.at_risk")
        assert told.happened_at < opened + timedelta(hours=9.5)  # the warning would come 30 minutes before
        assert told.data["probability"] >= 0.8
        (raised,) = desk.events(bad, "escalation.raised")
        assert raised.data["cause"] == "sla.at_risk"
        ClockCount(desk.database).count()
        expected = metrics.EXPECTED.labels("resolution")._value.get()
        kept = desk.rows("select sum(probability) as p from sla.forecast")[0].p
        assert expected == pytest.approx(kept)
        assert kept > 15

        desk.does(bad, "resolve", "carl")
        clock = desk.clocks(bad)["resolution", 1]
        assert (clock["state"], clock["breach_probability"]) == ("met", None)
        desk.wait(hours=20)
        assert len(desk.events(bad, "sla.at_risk")) == 1
        assert signalbox("forecast", "withdraw") == 0
        assert desk.clocks(fine)["resolution", 1]["breach_probability"] is None
