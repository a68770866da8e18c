"""Published classifiers in the router: used where a rule says so, quiet where they do not know, changed by one command."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.control.cli import main
from services.router import model_store
from services.router.classifier.model import Model
from services.router.classifier.training import train
from tests.support.routing import RoutingDesk, playbook, routing_desk

TEXTS = {
    "network": [
        "wifi is down",
        "no network in room 4",
        "vpn does not connect",
        "the switch is dead",
        "network is slow",
    ],
    "printer": ["printer has no paper", "toner is empty", "the printer jams", "cannot print labels", "printer offline"],
}


def model(precision: float = 0.9, swap: bool = False) -> Model:
    pairs = [(text, label) for label, texts in TEXTS.items() for text in texts]
    if swap:
        pairs = [(text, "printer" if label == "network" else "network") for text, label in pairs]
    texts, labels = [one for one, _ in pairs], [one for _, one in pairs]
    return train(texts, labels, texts, labels, precision=precision)


def sections(threshold: float | None = 0.6) -> dict[str, Any]:
    use = {"name": "kinds", "label": "kind_of"} | ({} if threshold is None else {"threshold": threshold})
    ask = {"name": "ask", "rules": [{"name": "text", "default": True, "then": {"model": use}}]}
    whose = {
        "name": "whose",
        "rules": [
            {"name": "n", "when": {"labels.kind_of": "network"}, "then": {"group": "network"}},
            {"name": "else", "default": True, "then": {"group": "desk"}},
        ],
    }
    groups = playbook()["groups"] | {"network": {"members": ["ann"]}}
    taxonomy = {
        "dimensions": {"kind_of": {"values": ["network", "printer", "other"]}},
        "priority": {"values": ["1", "4"]},
    }
    return playbook(taxonomy=taxonomy, groups=groups, rules=[ask, whose])


def publish(desk: RoutingDesk, one: Model, name: str = "kinds") -> int:
    with desk.database.begin() as connection:
        version = model_store.publish(connection, name, one.dumps(), dict(one.figures), "test")
    fresh(desk)
    return version


def fresh(desk: RoutingDesk) -> None:
    """As after the second for which a worker believes what it read."""
    for lane in desk.engine._lanes:
        models = getattr(lane.handler, "_models", None)
        if models is not None:
            models.max_age_seconds = 0.0


def test_a_published_model_says_the_label_that_a_rule_asks_it_for(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        publish(desk, model())
        ticket = desk.open(subject="wifi network down")
        shown = desk.ticket(ticket)
        assert shown["labels"]["kind_of"] == {"value": "network", "from": "model", "rule": "kinds@1"}
        assert shown["group"] == "network"


def test_a_model_that_does_not_know_sends_the_ticket_to_triage_with_its_guesses(database_url: str) -> None:
    with routing_desk(database_url, sections(threshold=0.99)) as desk:
        publish(desk, model())
        ticket = desk.open(subject="coffee machine")
        reason = desk.explain(ticket)["classification"][0]["reason"]
        assert desk.ticket(ticket)["group"] == "triage"
        assert {label for label, _ in reason["guesses"]} == {"network", "printer"}
        assert "model kinds abstained" in reason["notes"]


def test_what_the_sender_gave_is_not_asked_of_a_model(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        publish(desk, model())
        ticket = desk.open(subject="wifi network down", labels={"kind_of": "printer"})
        assert desk.ticket(ticket)["labels"]["kind_of"]["from"] == "given"


def test_a_model_that_is_not_published_or_not_readable_is_noted_and_passed_by(database_url: str) -> None:
    with routing_desk(database_url, sections()) as desk:
        first = desk.open(subject="wifi network down")
        with desk.database.begin() as connection:
            model_store.publish(connection, "kinds", b"not a model", {}, "test")
        fresh(desk)
        second = desk.open(subject="wifi network down")
        for ticket in (first, second):
            notes = desk.explain(ticket)["classification"][0]["reason"]["notes"]
            assert notes == ["model kinds is not published"]
            assert desk.ticket(ticket)["status"] == "assigned"


def test_a_model_may_not_say_what_the_playbook_does_not_have(database_url: str) -> None:
    with routing_desk(database_url, sections() | {"taxonomy": {"dimensions": {"kind_of": {"values": ["network"]}},
                                                               "priority": {"values": ["1", "4"]}}}) as desk:  # fmt: skip
        publish(desk, model())
        ticket = desk.open(subject="printer has no paper")
        assert desk.ticket(ticket)["group"] == "triage"
        assert "kind_of" not in desk.ticket(ticket)["labels"]


def test_one_command_goes_back_to_the_version_before_and_another_forward_again(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNALBOX_DATABASE_URL", database_url)
    monkeypatch.setenv("SIGNALBOX_REDIS_URL", redis_url)
    with routing_desk(database_url, sections()) as desk:
        assert [publish(desk, model()), publish(desk, model(swap=True))] == [1, 2]
        wrong = desk.open(subject="wifi network down")
        assert desk.ticket(wrong)["labels"]["kind_of"] == {"value": "printer", "from": "model", "rule": "kinds@2"}
        assert main(["classifier", "rollback", "kinds"]) == 0
        assert desk.ticket(desk.open(subject="wifi network down"))["labels"]["kind_of"]["rule"] == "kinds@1"
        assert main(["classifier", "rollback", "kinds"]) != 0
        assert "there is no older version of 'kinds'" in capsys.readouterr().err
        assert main(["classifier", "rollback", "kinds", "--to", "2"]) == 0
        assert desk.ticket(desk.open(subject="wifi network down"))["labels"]["kind_of"]["rule"] == "kinds@2"
        main(["classifier", "list"])
        listed = capsys.readouterr().out
        assert "kinds version 2 current" in listed
        assert "kinds version 1        " in listed


def test_confidence_and_abstention_are_counted_beside_what_was_measured(database_url: str) -> None:
    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"model": "kinds", **labels}) or 0.0

    with routing_desk(database_url, sections(threshold=0.99)) as desk:
        publish(desk, model())
        before = count("signalbox_model_predictions_total", outcome="abstained")
        seen = count("signalbox_model_confidence_count")
        desk.open(subject="coffee machine")
        assert count("signalbox_model_predictions_total", outcome="abstained") == before + 1
        assert count("signalbox_model_confidence_count") == seen + 1
        assert count("signalbox_model_measured", figure="answered") > 0
