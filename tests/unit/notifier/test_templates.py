"""Templates and the configuration of messages: sandboxed, strict, harmless for where they go, and refused early when
wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import registry
from services.notifier.errors import TemplateError
from services.notifier.templates import Catalogue, markdown_safe, one_line
from shared.playbook.messages import Messages, Provider, SecretRef, by_channel, locale_chain, parse_target
from shared.playbook.types import decode
from tests.conformance.cases import make_net

FACTS: dict[str, Any] = {
    "ticket": {"number": "T-1042", "subject": "[link](http://evil) @all <b>\r\nBcc: x", "labels": {"impact": "high"}},
    "due_at": datetime(2026, 11, 24, 4, 0, tzinfo=UTC),
    "zone": "Asia/Shanghai",
    "action_values": {"accept": "tok-accept"},
}


def messages(template: dict[str, Any] | None = None, **rule: Any) -> Messages:
    words = template or {"title": "新工单 {{ ticket.number }}", "text": "{{ ticket.subject }}"}
    base = {
        "name": "assigned",
        "on": ["ticket.assigned"],
        "audience": [{"to": ["assignee"]}],
        "plan": [{"channel": "mail"}],
        "templates": {"any": {"zh-CN": words}},
    }
    return decode({"rules": [base | rule]}, Messages)


def rendered(**template: Any) -> Any:
    return Catalogue(messages({"text": "-", **template})).render("assigned", "mail", "zh-CN", FACTS)


def test_values_are_harmless_for_where_they_go() -> None:
    content = rendered(
        title="{{ ticket.subject }}",
        html="<p>{{ ticket.subject }}</p>",
        markdown="**{{ ticket.subject }}**",
        variables={"s": "{{ ticket.subject }}"},
    )
    assert content.title == "[link](http://evil) @all <b> Bcc: x"
    assert content.html == "<p>[link](http://evil) @all &lt;b&gt;\r\nBcc: x</p>"
    assert "](http" not in content.markdown
    assert "@all" not in content.markdown
    assert "\n" not in content.variables["s"]


def test_instants_are_written_in_the_recipients_zone() -> None:
    assert rendered(text="{{ due_at | local }}").text == "11-24 12:00"


def test_a_button_carries_the_value_of_its_action() -> None:
    content = rendered(
        buttons=[{"label": "接单", "action": "accept"}, {"label": "打开", "url": "https://desk/{{ ticket.number }}"}]
    )
    assert [(one.label, one.url, one.value) for one in content.buttons] == [
        ("接单", "", "tok-accept"),
        ("打开", "https://desk/T-1042", ""),
    ]


HOSTILE = [
    "{{ ticket.__class__ }}",
    "{{ ticket['__class__'].__mro__ }}",
    "{{ nope }}",
    "{{ ticket.nope.deeper }}",
    "{{ 9**9**9 }}",
    "{{ 'a' * 10**9 }}",
    "{{ '%0999999999d' % 1 }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% macro m() %}x{% endmacro %}",
    "{{ ticket.items() }}",
    "{{ ''.join(['a']) }}",
    "{{ ticket | tojson }}",
    "{{ ticket | attr('__class__') }}",
    "{{ self }}",
    "{{ lipsum }}",
    "{{ cycler }}",
    "{% set ticket.x = 1 %}",
    "{{ unclosed",
    "{% if %}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_nothing_but_words_and_values_is_possible(source: str) -> None:
    with pytest.raises(TemplateError, match=r"messages\.assigned"):
        rendered(text=source)


def test_loops_and_conditions_over_given_values_work() -> None:
    source = "{% for name in ticket.labels %}{% if not loop.first %}, {% endif %}{{ name }}={{ ticket.labels[name] }}{% endfor %}"
    assert rendered(text=source).text == "impact=high"


@given(st.text(max_size=50))
def test_no_value_makes_a_link_or_a_second_line(text: str) -> None:
    assert "\n" not in one_line(text)
    assert "\r" not in one_line(text)
    assert "](" not in markdown_safe(text)
    assert "@a" not in markdown_safe(text)


CHAINS = [
    ("zh-TW", "zh-CN", ("zh-TW", "zh", "zh-CN", "en")),
    (None, "zh-CN", ("zh-CN", "zh", "en")),
    ("en-GB", "de", ("en-GB", "en", "de")),
]


@pytest.mark.parametrize(("wanted", "default", "chain"), CHAINS)
def test_words_are_looked_for_from_the_nearest_language_on(
    wanted: str | None, default: str, chain: tuple[str, ...]
) -> None:
    assert locale_chain(wanted, default) == chain


def test_a_channels_own_words_go_before_those_for_any() -> None:
    catalogue = Catalogue(
        messages(
            templates={
                "any": {"zh-CN": {"text": "any-zh"}, "de": {"text": "any-de"}},
                "sms": {"en": {"text": "sms-en"}},
            }
        )
    )
    texts = {
        (c, loc): catalogue.render("assigned", c, loc, FACTS).text
        for c in ("sms", "mail")
        for loc in ("de", "zh-CN", "fr", None)
    }
    assert texts["sms", "de"] == "sms-en"
    assert texts["mail", "de"] == "any-de"
    assert texts["mail", "fr"] == texts["mail", None] == "any-zh"


def test_check_names_the_place_of_a_template_that_fails() -> None:
    [problem] = Catalogue(messages({"text": "{{ ticket.numbr }}"})).problems(FACTS)
    assert problem.startswith("messages.assigned.templates.any.zh-CN.text: ")


WRONG = [
    {"audience": [{"to": []}]},
    {"audience": [{"to": ["nobody"]}]},
    {"audience": [{"to": ["manager:0"]}]},
    {"audience": [{"to": ["person:"]}]},
    {"plan": []},
    {"plan": [{"channel": "mail", "until": "some day"}]},
    {"on": []},
    {"on": ["Ticket Assigned"]},
    {"templates": {"sms": {"zh-CN": {"text": "x"}}}},
    {"templates": {"any": {"Chinese": {"text": "x"}}}},
    {"templates": {"any": {"zh-CN": {"title": "only a title"}}}},
    {"urgency": "extreme"},
    {"mispelt": 1},
]


@pytest.mark.parametrize("rule", WRONG)
def test_a_wrong_rule_is_refused_with_its_path(rule: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"rules|on|plan|audience|object"):
        messages(**rule)


PROVIDER = {
    "name": "sms-a",
    "driver": "aliyun_sms",
    "secrets": {"key_id": {"env": "A"}, "key_secret": {"file": "/run/k"}},
}
WRONG_PROVIDERS = [
    {"secrets": {"key": "plain text"}},
    {"secrets": {"key": {}}},
    {"secrets": {"key": {"env": "A", "file": "/b"}}},
    {"weight": -1},
    {"timeout": "1h"},
    {"concurrency": 0},
    {"quotas": [{"limit": 0, "per": "1m"}]},
    {"quotas": [{"limit": 5, "per": "0s"}]},
    {"name": "1 bad name"},
]


@pytest.mark.parametrize("change", WRONG_PROVIDERS)
def test_a_wrong_provider_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(PROVIDER | change, Provider)


def test_providers_are_grouped_by_the_channel_they_serve() -> None:
    providers = [
        decode(PROVIDER, Provider),
        decode(PROVIDER | {"name": "b", "driver": "signed_http_sms"}, Provider),
        decode(PROVIDER | {"name": "off", "enabled": False}, Provider),
        decode(PROVIDER | {"name": "m", "driver": "smtp", "channel": "letters"}, Provider),
    ]
    assert {channel: [one.name for one in found] for channel, found in by_channel(providers).items()} == {
        "sms": ["sms-a", "b"],
        "letters": ["m"],
    }


def test_targets_are_taken_apart() -> None:
    assert parse_target("manager") == ("manager", "1")
    assert parse_target("manager:3") == ("manager", "3")
    assert parse_target("person:alice") == ("person", "alice")


@pytest.mark.parametrize("name", registry.names())
def test_every_driver_can_be_loaded_and_checked_by_name(name: str) -> None:
    kind = registry.driver_type(name)
    assert kind.name == name
    missing = registry.problems(Provider(name="p", driver=name, settings={"no_such_setting": 1}))
    assert any("settings" in problem for problem in missing)
    assert sum("secret" in problem for problem in missing) == len(kind.secrets)
    assert Provider(name="p", driver=name).serves == kind.channel


def test_an_unknown_driver_is_named_with_those_there_are() -> None:
    [problem] = registry.problems(Provider(name="p", driver="carrier_pigeon"))
    assert "aliyun_sms" in problem


def test_a_provider_entry_becomes_a_driver_with_its_secrets_read() -> None:
    asked: list[SecretRef] = []

    def read(reference: SecretRef) -> str:
        asked.append(reference)
        return f"value-of-{reference.env or reference.file}"

    entry = decode(PROVIDER | {"settings": {"sign_name": "演示"}, "timeout": "3s"}, Provider)
    driver = registry.build(entry, make_net(), read)
    assert driver.options.secrets == {"key_id": "value-of-A", "key_secret": "value-of-/run/k"}
    assert driver.options.timeout_seconds == 3.0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("text", "personal"),
    [
        ("-", False),
        ("{{ ticket.number }} {{ event.data.metric }}", False),
        ("{% for name in ticket.labels %}{{ name }}{% endfor %}", False),
        ("{{ ticket.number }} {{ recipient.name }}", True),
        ("{{ due_at | local }}", True),
        ("{{ ticket.opened_at | local }}", True),
        ("{{ ticket.number }} {{ zone }}", True),
        ("{{ ticket.number }} {{ code }}", True),
        ("{{ ticket.number }} {{ links.accept }}", True),
    ],
)
def test_words_that_may_differ_between_recipients_are_known_as_personal(text: str, personal: bool) -> None:
    assert Catalogue(messages({"text": text})).find("assigned", "mail", "zh-CN").personal is personal


def test_one_personal_part_makes_the_whole_message_personal() -> None:
    words = {"text": "{{ ticket.number }}", "variables": {"who": "{{ recipient.name }}"}}
    assert Catalogue(messages(words)).find("assigned", "mail", "zh-CN").personal
