"""The published schemas of topics: the document in docs is the models', and nothing that a consumer may rely on is taken away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.contracts import topics
from shared.contracts.events import CATALOGUE, schema

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "asyncapi.json"
BASELINE = Path(__file__).parent / "topics_baseline.json"
"""Schemas as they were first published. Additions are written over it by `python -m tests.contracts.test_topics_schema`."""


def present() -> dict[str, Any]:
    whole = schema()
    return {"types": whole["types"], "$defs": whole["$defs"], "envelope": msgspec.json.schema(topics.CloudEvent)}


def broken(old: Any, new: Any, path: str = "") -> list[str]:
    """What a consumer of `old` would miss in `new`: members gone, other types, values gone, or newly optional where required."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [f"{path}: {old!r} became {new!r}"]
    found: list[str] = []
    for name, one in old.items():
        where = f"{path}/{name}"
        if name in ("description", "default", "title"):
            continue
        if name not in new:
            found.append(f"{where}: gone")
        elif name in ("required", "enum"):
            found += [f"{where}: {value} is gone" for value in one if value not in new[name]]
        elif isinstance(one, dict):
            found += broken(one, new[name], where)
        elif one != new[name]:
            found.append(f"{where}: {one!r} became {new[name]!r}")
    return found


def test_the_asyncapi_document_is_made_from_the_models() -> None:
    committed = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    assert committed == json.loads(json.dumps(topics.asyncapi("1"))), "run `make documents`"


def test_no_published_member_is_removed_or_changed() -> None:
    assert broken(json.loads(BASELINE.read_text(encoding="utf-8")), json.loads(json.dumps(present()))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["types"].pop("io.signalbox.ticket.opened.v1"), "/types/io.signalbox.ticket.opened.v1: gone"),
        (lambda s: s["$defs"]["TicketOpened"]["properties"].pop("subject"), "/properties/subject: gone"),
        (lambda s: s["$defs"]["TicketOpened"]["properties"]["subject"].update(type="integer"), "became 'integer'"),
        (lambda s: s["$defs"]["TicketOpened"]["required"].remove("subject"), "subject is gone"),
        (lambda s: s["envelope"]["$defs"]["CloudEvent"]["properties"].pop("sequence"), "/sequence: gone"),
    ],
)
def test_the_comparison_notices_what_breaks_a_consumer(change: Any, said: str) -> None:
    new = json.loads(json.dumps(present()))
    change(new)
    assert any(said in one for one in broken(json.loads(json.dumps(present())), new))


def test_every_event_type_has_a_topic_a_message_and_a_schema() -> None:
    document = topics.asyncapi("1")
    for name in CATALOGUE:
        kind = f"io.signalbox.{name}.v1"
        assert document["channels"][kind]["address"] == f"signalbox:topic:{kind}"
        assert kind in document["components"]["messages"]
        assert topics.schema_of(kind) is not None
    assert "#/$defs/" not in json.dumps(document)


def test_types_are_named_whole_short_or_by_noun() -> None:
    assert topics.event_types(["io.signalbox.ticket.opened.v1", "sla.met"]) == ("ticket.opened", "sla.met")
    assert set(topics.event_types(["sla.*"])) == {name for name in CATALOGUE if name.startswith("sla.")}
    with pytest.raises(ValueError, match=r"ticket\.eaten"):
        topics.event_types(["ticket.eaten"])


if __name__ == "__main__":
    BASELINE.write_text(json.dumps(present(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
