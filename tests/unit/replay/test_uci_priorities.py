"""Priority from impact x urgency, over every event of a recorded log."""

from __future__ import annotations

from services.router.domain.classify import Classifier
from shared.playbook.routing import Group, Routing, Taxonomy
from tests.support.data import data_folder, rows


def test_the_usual_matrix_gives_the_recorded_priority_of_every_event() -> None:
    folder = data_folder("priorities of the UCI incident log")
    if folder is None:
        return
    classifier = Classifier(Routing(taxonomy=Taxonomy(), groups={"triage": Group(members=())}))
    known: dict[tuple[str, str], str] = {}
    count = 0
    for row in rows(folder / "events" / "uci_incident_log.csv.gz"):
        given = (row["impact"][0], row["urgency"][0])
        if given not in known:
            ticket = {"subject": "x", "source": "log", "labels": {"impact": given[0], "urgency": given[1]}}
            known[given] = classifier.classify(classifier.facts(ticket, None)).priority.value
        assert known[given] == row["priority"][0], (given, row["priority"])
        count += 1
    assert count == 70_298
