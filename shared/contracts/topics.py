"""Topic events: what integrators get, as CloudEvents 1.0 in JSON, the same on every surface. Pure.

Attributes beyond the standard ones: `sequence` (the event's position in the whole log, zero-padded, so that it sorts as text;
growing, with gaps), `subjectseq` (the position within the subject, 1, 2, 3 … without gaps), `correlation`, `actorkind` and
`actorid`, `given` (said by people, senders or providers; else decided by a service), `playbookversion`. `subject` is a ticket's
id, or `kind/id` for other items. `id` is unique and the same on every surface and every repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.contracts.events import CATALOGUE, schema, topic_type

SOURCE = "/signalbox"
SEQUENCE_DIGITS = 19
_PREFIX, _SUFFIX = "io.signalbox.", ".v1"


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One topic event on the wire. `data` holds the members of the event's struct that differ from their defaults."""

    specversion: str = "1.0"
    id: str
    source: str = SOURCE
    type: str
    subject: str
    time: str
    datacontenttype: str = "application/json"
    dataschema: str
    sequence: str
    subjectseq: int
    correlation: str
    actorkind: str
    actorid: str
    given: bool
    playbookversion: int
    data: msgspec.Raw


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An event row as the log holds it, its JSON still text."""

    position: int
    kind: str
    id: int
    version: int
    type: str
    happened_at: datetime
    actor: str
    given: bool
    playbook: int
    correlation: str
    data: str


Show = Callable[[Any], Any]
"""What a reader may see of an event's data: `present` with its principal and masks."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def cloud_event(stored: Stored, show: Show | None = None) -> CloudEvent:
    """A row as a topic event; `show` None: nothing is masked, and the data is passed on as it lies."""
    actor = _decode(stored.actor)
    data = stored.data.encode() if show is None else _encode(show(_decode(stored.data)))
    kind = topic_type(stored.type)
    return CloudEvent(
        id=f"{stored.kind}-{stored.id}-{stored.version}",
        type=kind,
        subject=subject(stored.kind, stored.id),
        time=stored.happened_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        dataschema=f"/v1/schemas/{kind}",
        sequence=sequence(stored.position),
        subjectseq=stored.version,
        correlation=stored.correlation,
        actorkind=actor["kind"],
        actorid=actor["id"],
        given=stored.given,
        playbookversion=stored.playbook,
        data=msgspec.Raw(data),
    )


def encode(event: CloudEvent) -> bytes:
    """The event in CloudEvents JSON format (`application/cloudevents+json`)."""
    return _encode(event)


def subject(kind: str, item_id: int) -> str:
    """`1042` for a ticket, `agent/17` for anything else."""
    return str(item_id) if kind == "ticket" else f"{kind}/{item_id}"


def sequence(position: int) -> str:
    """A position as text that sorts like the number."""
    return f"{position:0{SEQUENCE_DIGITS}}"


def position(text: str) -> int:
    """The position of a `sequence` (or plain number). Raises `ValueError`."""
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > SEQUENCE_DIGITS:
        raise ValueError("a cursor is the `sequence` of an event")
    return int(digits)


def event_types(names: Iterable[str]) -> tuple[str, ...]:
    """Catalogue names of topic types, which may be written whole (`io.signalbox.ticket.opened.v1`), short (`ticket.opened`) or as
    a noun (`ticket.*`). Raises `ValueError` naming the one that is unknown.
    """
    found: dict[str, None] = {}
    for name in names:
        short = name.strip().removeprefix(_PREFIX).removesuffix(_SUFFIX)
        if short in CATALOGUE:
            found[short] = None
        elif short.endswith(".*") and any(one.startswith(short[:-1]) for one in CATALOGUE):
            found |= {one: None for one in CATALOGUE if one.startswith(short[:-1])}
        else:
            raise ValueError(f"unknown event type {name!r}")
    return tuple(found)


def schema_of(kind: str) -> dict[str, Any] | None:
    """The JSON Schema of one topic type's data, self-contained; None when there is no such type."""
    whole = schema()
    one = whole["types"].get(kind)
    if one is None:
        return None
    return {"$schema": whole["$schema"], "$id": f"/v1/schemas/{kind}", "title": kind, **one, "$defs": whole["$defs"]}


def asyncapi(version: str) -> dict[str, Any]:
    """The AsyncAPI 3 document of all topics, made from the catalogue."""
    whole = schema()
    refs = {name: _moved(one) for name, one in whole["types"].items()}
    messages = {
        kind: {
            "name": kind,
            "contentType": "application/cloudevents+json",
            "summary": (CATALOGUE[kind.removeprefix(_PREFIX).removesuffix(_SUFFIX)].__doc__ or kind).strip(),
            "payload": {
                "allOf": [
                    {"$ref": "#/components/schemas/CloudEvent"},
                    {"type": "object", "properties": {"type": {"const": kind}, "data": one}},
                ]
            },
        }
        for kind, one in refs.items()
    }
    channels = {
        "all": {
            "address": "signalbox:topic:all",
            "description": "Every topic event. Redis stream; field `event`; entry id `<position>-0`.",
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in refs},
        }
    } | {
        kind: {
            "address": f"signalbox:topic:{kind}",
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
        }
        for kind in refs
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Signalbox topics", "version": version, "description": (__doc__ or "").strip()},
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": {"receiveAll": {"action": "receive", "channel": {"$ref": "#/channels/all"}}},
        "components": {
            "messages": messages,
            "schemas": {"CloudEvent": _envelope()} | {name: _moved(one) for name, one in whole["$defs"].items()},
        },
    }


def _envelope() -> dict[str, Any]:
    (one,), parts = msgspec.json.schema_components([CloudEvent])
    return parts["CloudEvent"] if "$ref" in one else one


def _moved(value: Any) -> Any:
    """References of a schema, as components of an AsyncAPI document."""
    if isinstance(value, dict):
        return {
            name: one.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _moved(one)
            for name, one in value.items()
        }
    return [_moved(one) for one in value] if isinstance(value, list) else value
