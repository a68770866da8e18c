"""`check` and `apply`: read a playbook, prove it, publish it as a numbered version, bring the directory up to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from services.control.checks import problems_of
from services.control.misfits import misfit
from shared.calendar.spec import CalendarSpec
from shared.contracts.envelope import Actor, New
from shared.contracts.events import AgentChanged, PlaybookPublished
from shared.directory.people import Group, Leave, Person
from shared.ledger import business, items
from shared.ledger.process import Deps
from shared.ledger.unit import Unit
from shared.playbook.calendars import publish as publish_calendar
from shared.playbook.model import Document, Playbook
from shared.playbook.routing import Agent
from shared.playbook.routing import Group as GroupSpec
from shared.playbook.source import BadPlaybook, Problem, Source, read_folder
from shared.playbook.store import insert_version
from shared.playbook.types import decode

SHIPPED = Path(__file__).resolve().parents[2] / "playbooks"
_ADVISORY_KEY = 0x5161


def find(name_or_folder: str) -> Path:
    """A playbook's folder: a path, or the name of a shipped one. Raises `BadPlaybook`.

    A folder of a shipped one's name hides it only when there is a playbook in it.
    """
    path, shipped = Path(name_or_folder), SHIPPED / name_or_folder
    named = path.name == name_or_folder and shipped.is_dir()
    if path.is_dir() and not (named and not any(one.suffix in (".yaml", ".yml") for one in path.iterdir())):
        return path
    if named:
        return shipped
    known = ", ".join(sorted(one.parent.name for one in SHIPPED.glob("*/base.yaml")))
    raise BadPlaybook([Problem(f"no playbook folder {name_or_folder!r} (shipped: {known})")])


@dataclass(frozen=True, slots=True)
class Checked:
    """A playbook that may be published, and what it is warned about."""

    playbook: Playbook
    warnings: tuple[Problem, ...]


def check(source: Source, years: Iterable[int]) -> Checked:
    """Prove a playbook sound, or raise `BadPlaybook` with every problem found. `years`: for which holidays are looked up."""
    document = _decode(source)
    specs, problems = _calendars(source, document, tuple(years))
    errors = [one for one in problems if not one.warning]
    if errors:
        raise BadPlaybook(errors)
    playbook = Playbook(0, document, specs)
    problems += problems_of(playbook, source)
    errors = [one for one in problems if not one.warning]
    if errors:
        raise BadPlaybook(errors)
    return Checked(playbook, tuple(one for one in problems if one.warning))


def load(name_or_folder: str, years: Iterable[int]) -> Checked:
    """`find`, read and `check`."""
    return check(read_folder(find(name_or_folder)), years)


def years_around(at: datetime) -> range:
    """The years for which holidays are looked up when a playbook is published at `at`."""
    return range(at.year - 2, at.year + 4)


def _decode(source: Source) -> Document:
    """The sections, each decoded by itself so that all mistakes are found at once."""
    problems: list[Problem] = []
    known = {field.encode_name: field for field in msgspec.structs.fields(Document)}
    for name in source.sections:
        if name not in known:
            problems.append(source.problem((name,), f"no such section (known: {', '.join(sorted(known))})"))
    if "groups" not in source.sections:
        problems.append(Problem("a playbook needs the section `groups`"))
    for name, value in source.sections.items():
        if name in known:
            problems += _section_problems(source, name, value, known[name].type)
    if problems:
        raise BadPlaybook(problems)
    try:
        return decode({"name": source.name, **source.sections}, Document)
    except msgspec.ValidationError as error:
        raise BadPlaybook([_validation(source, (), error, Document)]) from error


def _section_problems(source: Source, name: str, value: Any, kind: Any) -> list[Problem]:
    parts: list[tuple[tuple[str | int, ...], Any, Any]] = [((name,), value, kind)]
    arguments: tuple[Any, ...] = getattr(kind, "__args__", ())
    if isinstance(value, list) and getattr(kind, "__origin__", None) is tuple:
        parts = [((name, index), one, arguments[0]) for index, one in enumerate(value)]
    elif isinstance(value, dict) and getattr(kind, "__origin__", None) is dict:
        parts = [((name, key), one, arguments[1]) for key, one in value.items()]
    problems = []
    for path, one, wanted in parts:
        try:
            decode(one, wanted)
        except msgspec.ValidationError as error:
            problems.append(_validation(source, path, error, wanted))
    return problems


def _validation(source: Source, path: tuple[str | int, ...], error: msgspec.ValidationError, kind: Any) -> Problem:
    below, reason = misfit(error, kind)
    return source.problem((*path, *below), reason)


def _calendars(
    source: Source, document: Document, years: tuple[int, ...]
) -> tuple[dict[str, CalendarSpec], list[Problem]]:
    specs: dict[str, CalendarSpec] = {}
    problems: list[Problem] = []
    for name, section in document.calendars.items():
        try:
            specs[name], warnings = publish_calendar(section, years, read=_reader(source))
            problems += [source.problem(("calendars", name), one, warning=True) for one in warnings]
        except ValueError as error:
            problems.append(source.problem(("calendars", name), str(error)))
    return specs, problems


def _reader(source: Source) -> Callable[[str], str] | None:
    """Reads iCalendar files beside the playbook."""
    folder = source.folder
    if folder is None:
        return None

    def read(name: str) -> str:
        path = (folder / name).resolve()
        if folder.resolve() not in path.parents:
            raise ValueError(f"{name}: outside the playbook's folder")
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{name}: {error.strerror}") from error

    return read


# ---- publishing -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """A version as it was published; `new` False when it was the current one already."""

    number: int
    new: bool
    people_changed: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """A published version's row."""

    number: int
    checksum: str
    undoes: int | None


def latest(connection: Connection) -> Version | None:
    """The current version, or None when nothing is published yet."""
    row = connection.exec_driver_sql(
        "select number, checksum, undoes from playbook.version order by number desc limit 1"
    ).one_or_none()
    return None if row is None else Version(row.number, row.checksum, row.undoes)


def running_of(connection: Connection, number: int) -> str:
    """What running tickets did when version `number` was applied: keep, from-now or whole."""
    found = connection.exec_driver_sql("select running from playbook.version where number = %s", (number,))
    return str(found.scalar_one())


def publish(
    deps: Deps, connection: Connection, playbook: Playbook, *, by: str, running: str = "keep", undoes: int | None = None
) -> Published:
    """Publish a checked playbook and commit. The same playbook twice is one version."""
    connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (_ADVISORY_KEY,))
    now = business.now(connection)
    last = connection.exec_driver_sql(
        "select number, checksum from playbook.version order by number desc limit 1"
    ).one_or_none()
    number = 1 if last is None else last.number + 1
    version = Playbook(number, playbook.document, playbook.specs)
    if last is not None and last.checksum == version.checksum and undoes is None:
        connection.rollback()
        return Published(last.number, new=False)
    insert_version(connection, version, at=now, by=by, running=running, undoes=undoes)
    unit = Unit(connection, now, Actor(kind="person", id=by), number, given=True)
    _event(deps, unit, version, running, undoes)
    changed = _bring_up(deps, unit, version)
    unit.flush()
    connection.commit()
    deps.playbooks.forget()
    deps.directory.forget()
    deps.bells.ring(unit.woken)
    return Published(number, new=True, people_changed=changed)


def _event(deps: Deps, unit: Unit, version: Playbook, running: str, undoes: int | None) -> None:
    item_id = items.locked(unit.connection, deps.ids, "playbook", str(version.number))[0]
    data = PlaybookPublished(
        name=version.document.name, number=version.number, checksum=version.checksum, running=running, undoes=undoes
    )
    unit.append("playbook", item_id, 0, [New(data)])
    unit.bump("playbook", item_id, 1, {"number": version.number})


def _bring_up(deps: Deps, unit: Unit, version: Playbook) -> int:
    """Write people and groups of the playbook into the directory; what people set by hand stays until its value changes."""
    document, changed = version.document, 0
    groups_of: dict[str, list[str]] = {}
    for group_id, group in document.groups.items():
        for member in group.members:
            groups_of.setdefault(member, []).append(group_id)
    known = {
        row.key
        for row in unit.connection.exec_driver_sql("select key from ledger.item where kind = 'agent' and version > 0")
    }
    for group_id, group in sorted(document.groups.items()):
        changed += _write(deps, unit, "group", group_id, _plain(group_of(group_id, group)))
    for person_id, agent in sorted(document.agents.items()):
        person = _plain(person_of(person_id, agent, groups_of.get(person_id, [])))
        changed += _write(deps, unit, "agent", person_id, person)
    for gone in sorted(known - set(document.agents)):
        changed += _write(deps, unit, "agent", gone, {"active": False}, partial=True)
    return changed


def _write(deps: Deps, unit: Unit, kind: str, key: str, record: Mapping[str, Any], *, partial: bool = False) -> int:
    item_id, version, state = items.locked(unit.connection, deps.ids, kind, key)
    wanted = dict(state) | dict(record) if partial else _kept(state, dict(record))
    if wanted == state:
        return 0
    data = AgentChanged(agent=key, record={k: v for k, v in wanted.items() if state.get(k) != v})
    after = unit.append(kind, item_id, version, [New(data)])
    unit.bump(kind, item_id, after, wanted)
    if kind == "agent":
        unit.wake("router", kind, item_id, "normal")
    return 1


def _kept(state: Mapping[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The playbook's record with what people set by hand: an override falls when the playbook's own value changes."""
    overridden = {name: value for name, value in state.get("overridden", {}).items() if record.get(name) == value}
    kept = record | {name: state[name] for name in overridden if name in state}
    return kept | ({"overridden": overridden} if overridden else {})


def set_by_hand(connection: Connection, version: Playbook) -> list[str]:
    """A line for each value of a person that somebody set by hand and that `version` leaves so, with what the playbook says."""
    found = []
    rows = connection.exec_driver_sql(
        "select key, state from ledger.item where kind = 'agent' and state ? 'overridden' order by key"
    ).all()
    for row in rows:
        agent = version.document.agents.get(row.key)
        if agent is None:
            continue
        person = person_of(row.key, agent, [])
        kept = _kept(row.state, _plain(person))
        for name in sorted(kept.get("overridden", ())):
            now, own = kept[name], msgspec.json.decode(msgspec.json.encode(getattr(person, name)))
            if now != own:
                found.append(f"{row.key}: {name} is {_short(now)}, set by hand (the playbook says {_short(own)})")
    return found


def _short(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _plain(record: Person | Group) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return plain


def group_of(group_id: str, group: GroupSpec) -> Group:
    """A group of a playbook as it stands in the directory."""
    return Group(
        id=group_id,
        name=group.title,
        lead=group.lead,
        members=group.members,
        interface=group.interface,
        overflow=group.overflow,
    )


def person_of(person_id: str, agent: Agent, groups: list[str]) -> Person:
    """A person of a playbook as they stand in the directory."""
    zone = ZoneInfo(agent.zone)
    leave = tuple(
        Leave(
            datetime.combine(one.first, time(), zone).astimezone(UTC),
            datetime.combine(one.last + timedelta(days=1), time(), zone).astimezone(UTC),
            one.delegate or agent.delegate,
        )
        for one in agent.leave
    )
    return Person(
        id=person_id,
        name=agent.name or person_id,
        groups=tuple(groups),
        roles=agent.roles,
        manager=agent.manager,
        contacts=agent.contacts,
        skills=agent.skills,
        capacity=1e9 if agent.capacity is None else agent.capacity,
        presence=agent.presence.value,
        leave=leave,
        calendar=agent.shift,
        locale=agent.locale,
        zone=agent.zone,
        quiet_hours=agent.quiet_hours,
        active=agent.active,
    )
