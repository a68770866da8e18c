"""`channels` and `messages` of a playbook: through which providers we speak, who hears of what, when, and in which words.

    channels:
      - {name: mail-main, channel: mail, driver: smtp, base_url: "smtp://mail.example.com:587",
         secrets: {password: {env: MAIL_PASSWORD}}, settings: {from_address: desk@example.com, username: desk}}
      - {name: sms-a, channel: sms, driver: aliyun_sms, weight: 3, secrets: {...}, settings: {sign_name: 演示},
         quotas: [{of: recipient, limit: 5, per: 1h}]}

    messages:
      default_locale: zh-CN
      rules:
        - name: assigned
          on: [ticket.assigned] audience: [{to: [assignee]}, {to: ["manager:1"], when: {priority: "1"}}] plan:
          [{channel: inbox}, {channel: chat, wait: 5m, until: accepted}, {channel: sms, wait: 10m, until: accepted}]
          templates:
            inbox: {zh-CN: {title: "新工单 {{ ticket.number }}", text: "{{ ticket.subject }}"}}
            any: {en: {title: "New ticket {{ ticket.number }}", text: "{{ ticket.subject }}"}}

Secrets stand in a playbook only as `{env: NAME}` or `{file: PATH}`. Conditions (`when`) are proven and compiled by
`shared.playbook.conditions`; drivers, secrets and templates by `signalbox check`, which knows the drivers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from shared.playbook.types import Config, Duration

ChannelName = str
"""A logical channel: `inbox`, `mail`, `sms`, `chat`, `app`, `robot`, `webhook`, or a name of the playbook's own."""

ANY_CHANNEL = "any"
_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2}|-\d{3})?")
_TOPIC = re.compile(r"[a-z_]+\.[a-z_]+|[a-z_]+\.\*")


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


# ---- channels -------------------------------------------------------------------------------------------------------------


class SecretRef(Config, frozen=True, kw_only=True):
    """Where a secret is found: the environment variable `env`, or the file `file` (its last line break removed)."""

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        _require((self.env is None) != (self.file is None), "a secret is written {env: NAME} or {file: PATH}")


class Quota(Config, frozen=True, kw_only=True):
    """At most `limit` messages in any `per`, of the whole account, one sender (robot, number) or one recipient."""

    limit: int
    per: Duration
    of: Literal["account", "sender", "recipient"] = "account"

    def __post_init__(self) -> None:
        _require(self.limit >= 1, "a quota lets at least 1 through")
        _require(self.per >= timedelta(seconds=1), "a quota's window is at least a second")


class Provider(Config, frozen=True, kw_only=True):
    """One account at one provider, or one robot. Several of one `channel` share its messages by `weight` and stand in
    for each other.
    """

    name: str
    driver: str
    channel: ChannelName = ""
    base_url: str = ""
    secrets: dict[str, SecretRef] = msgspec.field(default_factory=dict)
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    quotas: tuple[Quota, ...] = ()
    weight: int = 100
    timeout: Duration = Duration(seconds=10)
    concurrency: int = 32
    allow: tuple[str, ...] = ()
    enabled: bool = True

    def __post_init__(self) -> None:
        _require(bool(_NAME.fullmatch(self.name)), "a provider's name is a letter, then letters, digits, . _ or -")
        _require(0 <= self.weight <= 1000, "a weight is 0 (only when the others fail) to 1000")
        _require(timedelta(seconds=0.1) <= self.timeout <= timedelta(minutes=2), "a timeout is 100 ms to 2 minutes")
        _require(1 <= self.concurrency <= 512, "concurrency is 1 to 512")

    @property
    def serves(self) -> ChannelName:
        """The logical channel, by default the driver's name without its provider."""
        return self.channel or _DEFAULT_CHANNEL.get(self.driver, self.driver)


_DEFAULT_CHANNEL = {
    "inbox": "inbox",
    "smtp": "mail",
    "signed_http_sms": "sms",
    "aliyun_sms": "sms",
    "tencent_sms": "sms",
    "twilio": "sms",
    "smpp": "sms",
    "dingtalk_work": "chat",
    "wecom_app": "chat",
    "feishu_app": "chat",
    "dingtalk_robot": "robot",
    "wecom_robot": "robot",
    "feishu_bot": "robot",
    "slack": "robot",
    "teams": "robot",
    "fcm": "app",
    "apns": "app",
    "jpush": "app",
    "getui": "app",
    "web_push": "app",
    "apprise": "robot",
    "webhook": "webhook",
}


def by_channel(providers: Iterable[Provider]) -> dict[ChannelName, tuple[Provider, ...]]:
    """Enabled providers by the channel they serve, in the order written."""
    found: dict[ChannelName, tuple[Provider, ...]] = {}
    for provider in providers:
        if provider.enabled:
            found[provider.serves] = (*found.get(provider.serves, ()), provider)
    return found


# ---- messages -------------------------------------------------------------------------------------------------------------


class Target(NamedTuple):
    """One entry of an audience, taken apart: `manager:2` is (`manager`, `2`)."""

    kind: str
    value: str


_PLAIN_TARGETS = frozenset(
    (
        "assignee",
        "previous_assignee",
        "group",
        "lead",
        "requester",
        "watchers",
        "mentioned",
        "targets",
        "copies",
        "urged",
        "webhooks",
        "task",
        "actor",
    )
)
_VALUE_TARGETS = frozenset(("manager", "person", "robot", "group", "lead", "role"))


def parse_target(text: str) -> Target:
    """Read `assignee`, `manager:2`, `person:alice`, `robot:ops`, `group:network`; raise `ValueError` for anything else.

    `manager` is level 1 of the assignee's chain. `targets` and `copies` are the people an escalation step names, `urged` the
    overdue owner it reminds, `webhooks` the endpoints it calls; `task` are the members of a todo or task group.
    """
    kind, colon, value = text.partition(":")
    if not colon:
        _require(kind in _PLAIN_TARGETS or kind == "manager", f"nobody is called {text!r} in an audience")
        return Target(kind, "1" if kind == "manager" else "")
    _require(kind in _VALUE_TARGETS and bool(value), f"nobody is called {text!r} in an audience")
    _require(kind != "manager" or (value.isdecimal() and 1 <= int(value) <= 20), "a manager's level is 1 to 20")
    return Target(kind, value)


class Audience(Config, frozen=True, kw_only=True):
    """Who is told. `when` is a condition over the ticket's facts; `as_copy` marks those who need not act."""

    to: tuple[str, ...]
    when: dict[str, Any] | None = None
    as_copy: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.to), "an audience names somebody")
        for text in self.to:
            parse_target(text)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The entries of `to`, taken apart."""
        return tuple(parse_target(text) for text in self.to)


Until = Literal["delivered", "read", "accepted", "acknowledged", "assigned", "closed"]


class Step(Config, frozen=True, kw_only=True):
    """One step of a plan: this channel `wait` after the event (not after the step before), unless `until` holds by then."""

    channel: ChannelName
    wait: Duration = Duration(0)
    until: Until | None = None
    next_person: bool = False


class Digest(Config, frozen=True, kw_only=True):
    """First message at once, then one window that collects; `max_items` are listed, the rest counted."""

    window: Duration = Duration(minutes=5)
    max_items: int = 20

    def __post_init__(self) -> None:
        _require(timedelta(seconds=1) <= self.window <= timedelta(days=1), "a digest's window is a second to a day")
        _require(1 <= self.max_items <= 100, "a digest lists 1 to 100 items")


class Button(Config, frozen=True, kw_only=True):
    """An action of a card or link: one of the ticket's actions, or a URL."""

    label: str
    action: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.action) != bool(self.url), "a button has an action or a url")


class Template(Config, frozen=True, kw_only=True):
    """The words of one message in one language: Jinja in a sandbox, every variable must exist.

    `template` is the SMS provider's approved template code, or one for each provider (`{provider name: code}`), with
    its `variables` in their order; `text` is what channels without such templates send.
    """

    title: str = ""
    text: str = ""
    html: str = ""
    markdown: str = ""
    url: str = ""
    url_label: str = ""
    template: str | dict[str, str] = ""
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    buttons: tuple[Button, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.text or self.html or self.markdown or self.template), "a template says something")


class Rule(Config, frozen=True, kw_only=True):
    """What is said about some events: to whom, on which channels in which order, in which words.

    `on_unknown` answers whether a second copy is better than none when a provider's answer was lost. `forced`
    messages ignore preferences. `quiet` says what happens in a recipient's quiet hours. `valid_for` is how long the
    message is of use; later it is suppressed with a reason.
    """

    name: str
    on: tuple[str, ...]
    audience: tuple[Audience, ...]
    plan: tuple[Step, ...]
    templates: dict[ChannelName, dict[str, Template]]
    when: dict[str, Any] | None = None
    urgency: Literal["urgent", "normal", "bulk"] = "normal"
    on_unknown: Literal["resend", "keep"] = "keep"
    forced: bool = False
    quiet: Literal["hold", "downgrade", "pass"] = "hold"
    valid_for: Duration | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _require(bool(_NAME.fullmatch(self.name)), "a rule's name is a letter, then letters, digits, . _ or -")
        _require(
            bool(self.on) and all(_TOPIC.fullmatch(topic) for topic in self.on),
            "`on` lists event types like ticket.assigned or sla.*",
        )
        _require(bool(self.plan), "a plan has at least one step")
        _require(bool(self.audience), "an audience names somebody")
        for step in self.plan:
            known = step.channel in self.templates or ANY_CHANNEL in self.templates
            _require(known, f"no template for channel {step.channel!r} and none for any")
        for locale in (locale for templates in self.templates.values() for locale in templates):
            _require(bool(_LOCALE.fullmatch(locale)), f"{locale!r} is not a locale like zh-CN or en")

    def listens(self, topic: str) -> bool:
        """Whether the rule is about events of this type."""
        return any(one == topic or (one.endswith(".*") and topic.startswith(one[:-1])) for one in self.on)


class Cap(Config, frozen=True, kw_only=True):
    """At most `limit` messages to one recipient on one channel in any `per`: the rest waits and is bundled, never
    dropped.
    """

    limit: int
    per: Duration
    channel: ChannelName = ANY_CHANNEL

    def __post_init__(self) -> None:
        _require(self.limit >= 1, "a cap lets at least 1 through")


class Storm(Config, frozen=True, kw_only=True):
    """More than `limit` events of one source in `per` are one summary, and a closing one when it is over."""

    limit: int = 50
    per: Duration = Duration(minutes=1)


class Messages(Config, frozen=True, kw_only=True):
    """The section `messages`: the first rule about an event that fits each (recipient, channel) speaks."""

    rules: tuple[Rule, ...] = ()
    default_locale: str = "zh-CN"
    caps: tuple[Cap, ...] = ()
    storm: Storm | None = None
    digest: Digest = Digest()

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        _require(not twice, f"two rules are called {', '.join(twice)}")
        _require(bool(_LOCALE.fullmatch(self.default_locale)), "default_locale is a locale like zh-CN")


def locale_chain(wanted: str | None, default: str) -> tuple[str, ...]:
    """Where words are looked for: zh-CN, then zh, then the default and its language, then en."""
    chain: list[str] = []
    for locale in (wanted, default, "en"):
        while locale:
            if locale not in chain:
                chain.append(locale)
            locale = locale.rpartition("-")[0]
    return tuple(chain)
