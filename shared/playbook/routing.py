"""The routing part of a playbook: what tickets are, who works where, and which rules bring the two together.

    taxonomy:  dimensions of labels, the scale of priorities and the matrix between them
    fields:    custom fields of tickets
    lanes:     which tickets are urgent or bulk before and after they are classified
    rules:     rule sets, in order; later sets see what earlier ones wrote
    groups:    members in order, strategy, skills relaxed with waiting, offers, overflow
    agents:    people: skills, capacity, shift, leave, delegates, contacts
    work:      how much of an agent's capacity a ticket takes

A group is a queue: "queue" and "group" name the same thing. Values of labels and priorities are text; numbers in YAML
are read as their text. Everything here is plain data; names are resolved and conditions proven by `routingcheck`.
"""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Any

import msgspec

from shared.playbook.messages import SecretRef
from shared.playbook.ruleset import Mode
from shared.playbook.types import Config, Duration

Word = str | int
"""A value as it stands in YAML; always kept as text."""


def word(value: Word) -> str:
    """Return a value of a label or priority as text: `1` and `"1"` are the same."""
    return value if isinstance(value, str) else str(value)


def _words(values: tuple[Word, ...]) -> tuple[str, ...]:
    return tuple(word(value) for value in values)


def _keep(struct: Config, **values: Any) -> None:
    for name, value in values.items():
        msgspec.structs.force_setattr(struct, name, value)


class Dimension(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of label. What the sender gave wins over rules unless `given_wins` is off."""

    values: tuple[Word, ...]
    default: Word | None = None
    given_wins: bool = True

    def __post_init__(self) -> None:
        _keep(self, values=_words(self.values), default=None if self.default is None else word(self.default))


class Matrix(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Priority by two dimensions: `cells[first][second]`; `otherwise` for pairs that are not listed."""

    cells: dict[Word, dict[Word, Word]]
    otherwise: Word
    by: tuple[str, str] = ("impact", "urgency")

    def __post_init__(self) -> None:
        cells = {word(a): {word(b): word(c) for b, c in row.items()} for a, row in self.cells.items()}
        _keep(self, cells=cells, otherwise=word(self.otherwise))


class PriorityScale(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`values` from the most urgent to the least. Without a matrix priorities come from senders and rules only."""

    values: tuple[Word, ...] = ("1", "2", "3", "4")
    default: Word = "4"
    matrix: Matrix | None = None
    given_wins: bool = True

    def __post_init__(self) -> None:
        _keep(self, values=_words(self.values), default=word(self.default))


IMPACT_URGENCY = Matrix(cells={"1": {"1": "1", "2": "2"}, "2": {"1": "2", "2": "3"}, "3": {"1": "3"}}, otherwise="4")
"""The usual matrix: 1×1 → 1, 1×2 and 2×1 → 2, 2×2 and 3×1 → 3, else 4. As recorded in all events of the UCI incident
log.
"""


def _three() -> Dimension:
    return Dimension(values=("1", "2", "3"))


class Taxonomy(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Label dimensions by name, and the scale of priorities."""

    dimensions: dict[str, Dimension] = msgspec.field(default_factory=lambda: {"impact": _three(), "urgency": _three()})
    priority: PriorityScale = msgspec.field(default_factory=lambda: PriorityScale(matrix=IMPACT_URGENCY))


class FieldType(StrEnum):
    """What a custom field holds."""

    TEXT = "text"
    NUMBER = "number"
    BOOL = "bool"
    DATE = "date"
    CHOICE = "choice"
    LIST = "list"


class CustomField(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custom field of tickets. `mask` names how it is shown to those who may not read it whole (see
    `shared/access`). `of`: the members of each entry of a list (visits, parts), by name; without it entries are texts.
    """

    type: FieldType = FieldType.TEXT
    title: str = ""
    values: tuple[Word, ...] = ()
    required: bool = False
    mask: str | None = None
    of: dict[str, FieldType] = {}

    def __post_init__(self) -> None:
        _keep(self, values=_words(self.values))
        if self.of and self.type is not FieldType.LIST:
            raise ValueError("`of` describes the entries of a list")


class Lane(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`when` decides at intake (condition over what the sender gave), `priorities` after classification."""

    when: dict[str, Any] | None = None
    priorities: tuple[Word, ...] = ()

    def __post_init__(self) -> None:
        _keep(self, priorities=_words(self.priorities))


class Lanes(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is neither urgent nor bulk is normal."""

    urgent: Lane = Lane()
    bulk: Lane = Lane()


class Hold(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Act only from `at_least` tickets in `within` that share the fact `per`."""

    at_least: int
    within: Duration
    per: str = "dedup_key"


class ModelUse(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask a published classifier for `label` (a dimension, or `group`); below its threshold the ticket goes to triage."""

    name: str
    label: str
    threshold: float | None = None


class Actions(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule does. `override` lets it replace what the sender gave.

    `skills` are mandatory (name → lowest level), `preferred` give way with waiting time. `weight` is what the ticket
    takes of a capacity, `effort` what must be left of a shift.
    """

    labels: dict[str, Word] = msgspec.field(default_factory=dict)
    priority: Word | None = None
    group: str | None = None
    agent: str | None = None
    kind: str | None = None
    skills: dict[str, int] = msgspec.field(default_factory=dict)
    preferred: dict[str, int] = msgspec.field(default_factory=dict)
    weight: float | None = None
    effort: Duration | None = None
    hold: Hold | None = None
    model: ModelUse | None = None
    override: bool = False

    def __post_init__(self) -> None:
        labels = {name: word(value) for name, value in self.labels.items()}
        _keep(self, labels=labels, priority=None if self.priority is None else word(self.priority))


class RuleSpec(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule; exactly one of a set is the `default` and has no `when`."""

    name: str
    when: dict[str, Any] | None = None
    default: bool = False
    then: Actions = Actions()


class RuleSetSpec(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ordered rules; `enrich` names the outside systems that are asked before (see `enrichments`)."""

    name: str
    matches: Mode = Mode.FIRST
    rules: tuple[RuleSpec, ...]
    enrich: tuple[str, ...] = ()


class Enrichment(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outside system that answers facts `enrich.NAME.…`: `{url: "https://mes.example/devices/{fields.device}", …}`.

    `url` is a template over facts (see `shared.playbook.enrichment`); only hosts in `allow` are called, redirects are not
    followed. A ticket waits at most `timeout`, however many systems are asked; without an answer the facts are
    `default`. Answers are kept for `cache`. Secrets in `headers` are written `{env: NAME}` or `{file: PATH}`.
    """

    url: str
    allow: tuple[str, ...]
    timeout: Duration = Duration(seconds=1)
    cache: Duration = Duration(minutes=5)
    default: dict[str, Any] = msgspec.field(default_factory=dict)
    headers: dict[str, str | SecretRef] = msgspec.field(default_factory=dict)


class WorkRule(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a ticket for which `when` holds takes of a capacity."""

    when: dict[str, Any]
    weight: float


class Work(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of tickets: the rule that says so, else the first of `rules` that holds, else `default`.

    `states` are factors by ticket status (a pending ticket may take half). Weights are kept in hundredths.
    """

    default: float = 1.0
    rules: tuple[WorkRule, ...] = ()
    states: dict[str, float] = msgspec.field(default_factory=dict)


class Strategy(StrEnum):
    """Who of those who can take a ticket gets it."""

    ROUND_ROBIN = "round_robin"
    WEIGHTED_ROUND_ROBIN = "weighted_round_robin"
    LEAST_LOADED = "least_loaded"  # smallest sum of weights
    UTILISATION = "utilisation"  # smallest share of the capacity
    MOST_SPARE = "most_spare"  # most capacity left
    BALANCED = "balanced"  # fewest open tickets
    LEAST_RECENTLY_ASSIGNED = "least_recently_assigned"
    SKILL_FIT = "skill_fit"  # most preferred skills, least surplus, then least loaded
    STICKY = "sticky"  # the last owner, else least loaded
    BY_FIELD = "by_field"  # the person a field names, or nobody


class Presence(StrEnum):
    """Whether a person takes work now."""

    AVAILABLE = "available"
    AWAY = "away"
    OFFLINE = "offline"


class OfferPolicy(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tickets are offered and must be accepted. Exactly at the end of `timeout` is in time."""

    timeout: Duration = Duration(minutes=5)
    on_timeout: Presence | None = None
    on_decline: Presence | None = None


class RelaxTo(StrEnum):
    """Which demand is dropped."""

    MANDATORY = "mandatory"  # preferred skills are no longer asked for
    OVERFLOW = "overflow"  # the overflow group may take it


class Relax(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After that much waiting."""

    after: Duration
    to: RelaxTo


class Rate(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `limit` assignments to one agent in any `within`; at the limit is over the limit."""

    limit: int
    within: Duration = Duration(days=1)


class Group(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """People who share a queue. The order of `members` breaks ties.

    `interface` receives what comes from other departments. `untouched` after assignment without a first act: back to
    the queue. `shift_left` must remain of a shift. `department` joins groups for the cross-team report.
    """

    members: tuple[str, ...]
    title: str = ""
    department: str = ""
    strategy: Strategy = Strategy.LEAST_LOADED
    field: str | None = None
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    sticky: bool = False
    offer: OfferPolicy | None = None
    untouched: Duration | None = None
    shift_left: Duration = Duration(0)
    rate: Rate | None = None
    relax: tuple[Relax, ...] = ()
    overflow: str | None = None
    interface: str | None = None
    lead: str | None = None
    new_member_wait: Duration = Duration(0)
    look_ahead: bool = False
    fairness: float = 1.0
    depth: int = 1


class Leave(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whole days, first and last included, in the person's own zone."""

    first: date
    last: date
    delegate: str | None = None


_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")


class Agent(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person. `shift` names a calendar (none: always on); `capacity` is in tickets of weight 1 (none: no limit)."""

    name: str = ""
    skills: dict[str, int] = msgspec.field(default_factory=dict)
    capacity: float | None = None
    shift: str | None = None
    leave: tuple[Leave, ...] = ()
    delegate: str | None = None
    manager: str | None = None
    presence: Presence = Presence.AVAILABLE
    active: bool = True
    since: date | None = None
    roles: tuple[str, ...] = ("agent",)
    contacts: dict[str, str] = msgspec.field(default_factory=dict)
    locale: str = "en"
    zone: str = "UTC"
    quiet_hours: str | None = None

    def __post_init__(self) -> None:
        if self.quiet_hours is not None and not _HOURS.fullmatch(self.quiet_hours):
            raise ValueError("quiet_hours are written 22:00-07:00")


class Routing(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole section. `triage` is the group of tickets that nothing else claims; `zone` that of time facts."""

    taxonomy: Taxonomy = msgspec.field(default_factory=Taxonomy)
    fields: dict[str, CustomField] = msgspec.field(default_factory=dict)
    lanes: Lanes = Lanes()
    rules: tuple[RuleSetSpec, ...] = ()
    groups: dict[str, Group]
    agents: dict[str, Agent] = msgspec.field(default_factory=dict)
    work: Work = Work()
    enrichments: dict[str, Enrichment] = msgspec.field(default_factory=dict)
    triage: str = "triage"
    zone: str = "UTC"
