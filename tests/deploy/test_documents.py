"""Documents that name files, settings, commands or sections name ones that exist, and leave none out."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from services.control.cli import COMMANDS
from services.gateway.app import CALLS
from shared.playbook.messages import Messages
from shared.playbook.model import Document
from shared.playbook.routing import Actions, Enrichment, Group, Hold, OfferPolicy, Work
from shared.playbook.source import read_folder
from shared.playbook.types import decode

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
PLACE = re.compile(r"`((?:services|shared|tests|deploy|docs|migrations|playbooks|bench)/[\w@./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    named = [name.rstrip(".") for name in PLACE.findall(text) if "NAME" not in name]
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda page: page.stem)
def test_a_decision_says_context_decision_consequences_and_alternatives_on_one_page(page: Path) -> None:
    text = page.read_text()
    for part in ("Context", "Decision", "Consequences", "Alternatives"):
        assert re.search(rf"(?m)^(## {part}$|\*\*{part})", text), part
    assert len(text.splitlines()) < 80


def test_the_operations_page_names_every_setting() -> None:
    code = (ROOT / "shared/runtime/settings.py").read_text()
    settings = set(re.findall(r'"(SIGNALBOX_[A-Z_]+)"', code))
    assert settings - set(re.findall(r"SIGNALBOX_[A-Z_]+", (ROOT / "docs/operations.md").read_text())) == set()


def test_the_playbook_page_has_a_section_for_each_section_of_a_playbook_with_an_example() -> None:
    text = (ROOT / "docs/playbook.md").read_text()
    sections = re.split(r"(?m)^## ", text)[1:]
    by_name = {name: body for body in sections for name in re.findall(r"`(\w+)`", body.splitlines()[0])}
    members = set(Document.__struct_fields__)
    assert members - by_name.keys() == set()
    assert by_name.keys() - members == set()
    assert all("```yaml" in body for name, body in by_name.items())


def test_every_example_of_the_playbook_page_is_understood_by_the_reader_and_the_model(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/playbook.md").read_text(), re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"{number:02}.yaml").write_text(block)
    sections = read_folder(tmp_path).sections
    fields = {one.encode_name: one.type for one in msgspec.structs.fields(Document)}
    assert sections.keys() == fields.keys()
    for name, value in sections.items():
        decode(value, fields[name])


def test_the_example_of_the_routing_page_tells_the_lead_of_what_waits(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/routing.md").read_text(), re.DOTALL)
    (tmp_path / "messages.yaml").write_text(block)
    [rule] = decode(read_folder(tmp_path).sections["messages"], Messages).rules
    assert "ticket.queued" in rule.on
    assert [target.kind for target in rule.audience[0].targets] == ["lead"]


@pytest.mark.parametrize("cls", [Group, Actions, Enrichment, Hold, OfferPolicy, Work], ids=lambda cls: cls.__name__)
def test_the_playbook_page_says_what_each_member_of_a_routing_section_is(cls: type) -> None:
    text = (ROOT / "docs/playbook.md").read_text()
    table = text.split(f"\n*{cls.__name__}*", 1)[1].split("\n\n", 2)[1]
    bare = [row for row in table.splitlines()[2:] if row.endswith("|  |")]
    assert [row for row in bare if not row.startswith("| `title`")] == []


def test_the_http_page_names_calls_that_there_are() -> None:
    text = (ROOT / "docs/http.md").read_text()
    named = set(re.findall(r"`((?:GET|POST|PATCH|PUT|DELETE) /[^` ]*)`", text))
    known = {f"{one.method} {one.path}" for one in CALLS if not one.internal}
    assert len(named) > 10
    assert named - known == set()


def test_every_command_that_a_page_or_a_runbook_tells_to_type_is_one() -> None:
    for page in PAGES:
        named = set(re.findall(r"`signalbox ([a-z]+)", page.read_text()))
        assert named <= set(COMMANDS), page
