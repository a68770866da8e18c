"""A playbook whole: its sections decoded, its calendars published, ready to be asked.

`Document` is what an operations team writes, section by section; `Playbook` is one published version of it with what is computed
once (calendars with their holidays, the schema of facts, compiled conditions). Services compile what they need from their own
section and keep it with `Playbook.derived`, so that a version is compiled once in each process.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import msgspec

from shared.access.present import Mask
from shared.calendar.business import BusinessCalendar
from shared.calendar.spec import CalendarSpec
from shared.playbook.calendars import CalendarSection
from shared.playbook.conditions import parse as parse_condition
from shared.playbook.escalation import Chain, ScheduleSpec
from shared.playbook.facts import Facts, Schema
from shared.playbook.messages import Messages, Provider
from shared.playbook.routing import (
    Agent,
    CustomField,
    Enrichment,
    Group,
    Lanes,
    Routing,
    RuleSetSpec,
    Taxonomy,
    Work,
)
from shared.playbook.sla import SlaPolicy
from shared.playbook.ticketfacts import schema_of
from shared.playbook.types import Config, Duration, decode, encode
from shared.runtime import memory
from shared.ticket.flow.model import Flow

T = TypeVar("T")


class Access(Config, frozen=True, kw_only=True):
    """Field masks by dotted path (`requester.phone`, `fields.id_card`)."""

    masks: dict[str, Mask] = {}


class Watch(Config, frozen=True, kw_only=True):
    """What starts a chain: an assignment nobody accepts, a stalled node, a warning, a breach, each with its condition."""

    on: str
    chain: str
    when: dict[str, Any] | None = None
    after: Duration | None = None
    """For `unaccepted`: how long an assignment may stay unaccepted."""


class Repeats(Config, frozen=True, kw_only=True):
    """A ticket of the same requester with the same fields `same`, within `within` of the earlier one's end, is a repeat.

    The number of the latest such ticket is put into `field` as the new one is opened, so that rules may ask for it.
    """

    same: tuple[str, ...]
    within: Duration
    field: str = "repeat_of"

    def __post_init__(self) -> None:
        if not self.same:
            raise ValueError("name at least one field in `same`")


class Tasks(Config, frozen=True, kw_only=True):
    """Todos and joint task groups: how long a todo has (wall time), and what happens to open ones when their ticket ends.

    `on_end`: they `close` with it, they are `keep` on, or the ticket has to `wait` for them.
    """

    due: Duration = Duration(days=1)
    on_end: Literal["close", "keep", "wait"] = "close"


class Document(Config, frozen=True, kw_only=True):
    """All sections. Only `groups` and one rule set are required; the rest has working defaults."""

    name: str = ""
    title: str | dict[str, str] = ""
    zone: str = "UTC"
    locale: str = "en"
    sources: tuple[str, ...] = ()
    triage: str = "triage"
    taxonomy: Taxonomy = msgspec.field(default_factory=Taxonomy)
    fields: dict[str, CustomField] = {}
    lanes: Lanes = Lanes()
    rules: tuple[RuleSetSpec, ...] = ()
    groups: dict[str, Group]
    agents: dict[str, Agent] = {}
    work: Work = Work()
    enrichments: dict[str, Enrichment] = {}
    calendars: dict[str, CalendarSection] = {}
    sla: tuple[SlaPolicy, ...] = ()
    flows: tuple[Flow, ...] = ()
    chains: tuple[Chain, ...] = ()
    watch: tuple[Watch, ...] = ()
    schedules: dict[str, ScheduleSpec] = {}
    channels: tuple[Provider, ...] = ()
    messages: Messages = Messages()
    access: Access = Access()
    repeats: Repeats | None = None
    tasks: Tasks = Tasks()

    @property
    def routing(self) -> Routing:
        """The sections that the router reads, as one value."""
        return Routing(
            taxonomy=self.taxonomy,
            fields=self.fields,
            lanes=self.lanes,
            rules=self.rules,
            groups=self.groups,
            agents=self.agents,
            work=self.work,
            enrichments=self.enrichments,
            triage=self.triage,
            zone=self.zone,
        )


@dataclass(frozen=True)
class Playbook:
    """One version. `number` 0 is a playbook that is not published (checked, explained, evaluated)."""

    number: int
    document: Document
    specs: Mapping[str, CalendarSpec]
    _derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @cached_property
    def calendars(self) -> dict[str, BusinessCalendar]:
        """Business calendars by name."""
        return {name: BusinessCalendar(spec) for name, spec in self.specs.items()}

    @cached_property
    def routing(self) -> Routing:
        return self.document.routing

    @cached_property
    def schema(self) -> Schema:
        """Every fact that a condition of this playbook may name."""
        return schema_of(self.routing)

    def condition(self, when: Mapping[str, Any] | None, path: str = "when") -> Callable[[Facts], bool]:
        """A compiled condition; None and an empty one always hold. Raises `ConditionError` with the path."""
        if not when:
            return _always
        return parse_condition(when, self.schema, path).compile()

    def derived(self, name: str, build: Callable[[Playbook], T]) -> T:
        """What a service computes from this version, once in each process."""
        value: T
        if name in self._derived:  # never taken out again
            value = self._derived[name]
            return value
        with self._lock:
            if name not in self._derived:
                self._derived[name] = build(self)
                memory.keep()
            value = self._derived[name]
            return value

    def stored(self) -> dict[str, Any]:
        """Plain data that `from_stored` reads back: the sections as written, the calendars as published."""
        return {
            "document": msgspec.json.decode(encode(self.document)),
            "calendars": msgspec.json.decode(encode(dict(self.specs))),
        }

    @cached_property
    def checksum(self) -> str:
        """Equal for playbooks that decide equally."""
        return hashlib.sha256(encode(self.stored())).hexdigest()


def _always(_: Facts) -> bool:
    return True


def from_stored(number: int, stored: Mapping[str, Any]) -> Playbook:
    """A published version as it was stored."""
    return Playbook(number, decode(stored["document"], Document), decode(stored["calendars"], dict[str, CalendarSpec]))
