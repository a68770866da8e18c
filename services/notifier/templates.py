"""The words of messages: Jinja in a sandbox, strict variables, compiled once, each value made harmless for where it goes.

A value in `html` is escaped, in `markdown` it cannot make a link or mention anybody, in a `title` or SMS variable it
stays on one line. What a template may use is a short list: no includes, macros, globals, powers or repeated text;
loops only over what it was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, nodes, pass_context
from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import escape

from services.notifier.channels.base import Button, Content
from services.notifier.errors import TemplateError
from shared.playbook.messages import ANY_CHANNEL, Messages, Rule, Template, locale_chain

MAX_RENDERED = 200_000  # characters of one part
_FILTERS = frozenset(
    [
        "abs",
        "capitalize",
        "default",
        "d",
        "e",
        "escape",
        "first",
        "float",
        "format_number",
        "int",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "replace",
        "round",
        "sort",
        "string",
        "title",
        "trim",
        "truncate",
        "unique",
        "upper",
        "clip",
        "local",
        "minutes",
    ]
)
_REFUSED: tuple[type[nodes.Node], ...] = (
    nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Macro, nodes.CallBlock, nodes.Block, nodes.Pow,
    nodes.Call, nodes.Mul, nodes.Mod,
    nodes.NSRef,
)  # fmt: skip
_SPACE = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029]")
_MARKDOWN = re.compile(r"([\\`*_\[\]()~|#])")


def one_line(value: object) -> str:
    """Spaces for line breaks and control characters."""
    text = str(value)
    if text.isprintable() and "  " not in text:  # as nearly all are
        return text.strip()
    return _SPACE.sub(" ", _CONTROL.sub(" ", text)).strip()


def markdown_safe(value: object) -> str:
    """Text that no chat client reads as a link, a mention or a tag."""
    text = _MARKDOWN.sub(r"\\\1", _CONTROL.sub(" ", str(value)))
    return text.replace("<", "&lt;").replace("@", "@\u200b")


def plain(value: object) -> str:
    """Text without control characters; line breaks stay."""
    text = str(value)
    return text if text.isprintable() else _CONTROL.sub(" ", text)


def _clip(value: object, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


def _minutes(seconds: float) -> int:
    return max(0, round(seconds / 60))


@pass_context
def _local(context: Context, value: datetime, pattern: str = "%m-%d %H:%M") -> str:
    """An instant in the recipient's zone (`zone` of the message's facts)."""
    return value.astimezone(ZoneInfo(str(context.get("zone") or "UTC"))).strftime(pattern)


def _environment(finalize: Callable[[object], object], *, html: bool = False) -> Environment:
    env = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=html,
        finalize=finalize,
        keep_trailing_newline=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.clear()
    env.tests = {
        name: test for name, test in env.tests.items() if name in ("defined", "undefined", "none", "even", "odd", "in")
    }
    env.filters = {name: one for name, one in env.filters.items() if name in _FILTERS}
    env.filters |= {"clip": _clip, "local": _local, "minutes": _minutes}
    return env


def _html_value(value: object) -> object:
    return escape(value)


_PLAIN = _environment(plain)
_LINE = _environment(one_line)
_MARK = _environment(markdown_safe)
_HTML = _environment(_html_value, html=True)


class Text:
    """One compiled part; a part without markup costs nothing to render."""

    __slots__ = ("_constant", "_parts", "_template", "_value", "names", "personal", "where")

    def __init__(self, env: Environment, source: str, where: str) -> None:
        self.where = where
        self.names: frozenset[str] = frozenset()
        """`links.accept`, `code` where it names them."""
        self.personal = False
        """Whether it may say something else to another recipient."""
        self._template: JinjaTemplate | None = None
        self._parts: tuple[str | tuple[str, ...], ...] = ()
        self._value = env.finalize
        self._constant = source
        if "{" not in source:
            return
        try:
            tree = env.parse(source)
            for node in tree.find_all(_REFUSED):
                raise TemplateError(f"{where}: line {node.lineno}: {type(node).__name__.lower()} may not be used here")
            for name in tree.find_all(nodes.Name):
                if name.name in ("self", "super"):
                    raise TemplateError(f"{where}: line {name.lineno}: {name.name} may not be used here")
            self.names = frozenset(_linked(tree))
            self.personal = bool(self.names) or _personal(tree)
            self._parts = _plain_parts(tree)
            self._template = env.from_string(tree)
        except TemplateSyntaxError as error:
            raise TemplateError(f"{where}: line {error.lineno}: {error.message}") from error

    @property
    def varies(self) -> bool:
        """Whether it says anything of what it is rendered with."""
        return self._template is not None

    def _quick(self, facts: Mapping[str, Any]) -> str | None:
        """The text without Jinja; None where something is missing or no mapping, which Jinja then says better."""
        found = []
        for part in self._parts:
            if isinstance(part, str):
                found.append(part)
                continue
            value: Any = facts
            for name in part:
                if type(value) is not dict or name not in value:
                    return None
                value = value[name]
            found.append(str(self._value(value) if self._value is not None else value))
        text = "".join(found)
        return text if len(text) <= MAX_RENDERED else None

    def render(self, facts: Mapping[str, Any]) -> str:
        """The text for these facts; raises `TemplateError` naming what is missing."""
        if self._template is None:
            return self._constant
        if self._parts and (quick := self._quick(facts)) is not None:
            return quick
        try:
            text = self._template.render(facts)
        except TemplateRuntimeError as error:
            raise TemplateError(f"{self.where}: {error.message}") from error
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise TemplateError(f"{self.where}: {error}") from error
        if len(text) > MAX_RENDERED:
            raise TemplateError(f"{self.where}: the rendered text is too long")
        return text


def _plain_parts(tree: nodes.Template) -> tuple[str | tuple[str, ...], ...]:
    """A template that is only text and names of members, as its pieces; empty for any other. Most are, and Jinja's own way costs
    fifteen microseconds a part.
    """
    pieces: list[str | tuple[str, ...]] = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return ()
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                pieces.append(node.data)
                continue
            path: list[str] = []
            inner: nodes.Node = node
            while isinstance(inner, nodes.Getattr):
                path.append(inner.attr)
                inner = inner.node
            if not isinstance(inner, nodes.Name) or any(hasattr(dict, name) for name in path):
                return ()
            pieces.append((inner.name, *reversed(path)))
    return tuple(pieces)


def _personal(tree: nodes.Template) -> bool:
    """Whether it names the recipient, their zone (as `local` does), or anything that is not the same for all: what is not known to
    be common counts as personal.
    """
    free = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"}
    bound = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    return not free <= bound | {"ticket", "event"} or any(one.name == "local" for one in tree.find_all(nodes.Filter))


def _linked(tree: nodes.Template) -> Iterator[str]:
    for name in tree.find_all(nodes.Name):
        if name.name == "code":
            yield "code"
    for member in tree.find_all(nodes.Getattr):
        if isinstance(member.node, nodes.Name) and member.node.name == "links":
            yield f"links.{member.attr}"


class CompiledTemplate:
    """All parts of one message in one language. `actions` are those it offers as links or buttons, in a fixed order; `linked` tells
    whether it needs links or their code at all.
    """

    __slots__ = (
        "_buttons", "_constant", "_parts", "_variables", "actions", "by_provider", "codes", "linked", "personal",
    )  # fmt: skip

    def __init__(self, template: Template, where: str) -> None:
        parts = {
            "title": Text(_LINE, template.title, f"{where}.title"),
            "text": Text(_PLAIN, template.text, f"{where}.text"),
            "html": Text(_HTML, template.html, f"{where}.html"),
            "markdown": Text(_MARK, template.markdown, f"{where}.markdown"),
            "url": Text(_LINE, template.url, f"{where}.url"),
            "url_label": Text(_LINE, template.url_label, f"{where}.url_label"),
        }
        self._parts = [(name, text) for name, text in parts.items() if text.varies]
        self._constant: dict[str, Any] = {name: text.render({}) for name, text in parts.items() if not text.varies}
        self._variables = {
            name: Text(_LINE, source, f"{where}.variables.{name}") for name, source in template.variables.items()
        }
        self._buttons = [
            (Text(_LINE, button.label, f"{where}.buttons"), Text(_LINE, button.url, f"{where}.buttons"), button.action)
            for button in template.buttons
        ]
        self.codes = template.template
        self.by_provider = not isinstance(self.codes, str)
        """Whether its words differ between providers."""
        texts = [
            *parts.values(), *self._variables.values(), *(text for label, url, _ in self._buttons for text in (label, url)),
        ]  # fmt: skip
        names = frozenset[str]().union(*(text.names for text in texts))
        offered = {name.removeprefix("links.") for name in names if name.startswith("links.")}
        self.actions = tuple(sorted(offered | {action for _, _, action in self._buttons if action}))
        self.linked = bool(self.actions) or "code" in names
        self.personal = self.linked or any(text.personal for text in texts)
        """Whether its words may differ between recipients of one event."""

    def render(self, facts: Mapping[str, Any], provider: str = "") -> Content:
        """The message for one recipient. `facts["action_values"]` maps an action to what its button carries, `action_urls` to where
        it leads where the channel cannot call back.
        """
        codes = self.codes
        values: Mapping[str, str] = facts.get("action_values", {})
        urls: Mapping[str, str] = facts.get("action_urls", {})
        said = self._constant | {name: text.render(facts) for name, text in self._parts}
        return Content(
            **said,
            template=codes if isinstance(codes, str) else codes.get(provider, ""),
            variables={name: text.render(facts) for name, text in self._variables.items()} if self._variables else {},
            buttons=tuple(
                Button(label.render(facts), url.render(facts) or urls.get(action, ""), values.get(action, action))
                for label, url, action in self._buttons
                if not action or values.get(action, action)
            ),
        )


class Catalogue:
    """Every template of a playbook version, compiled; immutable and shared."""

    def __init__(self, messages: Messages) -> None:
        """Compile all; raises `TemplateError` with the place of the first that does not."""
        self._default = messages.default_locale
        self._compiled = {
            (rule.name, channel, locale): CompiledTemplate(
                template, f"messages.{rule.name}.templates.{channel}.{locale}"
            )
            for rule in messages.rules
            for channel, locale, template in _templates(rule)
        }
        self._found: dict[tuple[str, str, str | None], CompiledTemplate] = {}

    def find(self, rule: str, channel: str, locale: str | None) -> CompiledTemplate:
        """The words for a channel in the nearest language: the channel's own in any language go before those for `any`
        channel.
        """
        key = (rule, channel, locale)
        found = self._found.get(key)
        if found is None:
            candidates = [
                (rule, name, one) for name in (channel, ANY_CHANNEL) for one in locale_chain(locale, self._default)
            ]
            own = [known for known in self._compiled if known[0] == rule and known[1] in (channel, ANY_CHANNEL)]
            best = next((candidate for candidate in candidates if candidate in self._compiled), own[0] if own else None)
            if best is None:
                raise TemplateError(f"messages.{rule}: no template for channel {channel}")
            found = self._found[key] = self._compiled[best]
        return found

    def render(
        self, rule: str, channel: str, locale: str | None, facts: Mapping[str, Any], provider: str = ""
    ) -> Content:
        """The message of a rule on a channel for one recipient; raises `TemplateError`."""
        return self.find(rule, channel, locale).render(facts, provider)

    def problems(self, facts: Mapping[str, Any]) -> Iterator[str]:
        """Render everything with sample facts and tell what fails, with its place: for `signalbox check`."""
        for compiled in self._compiled.values():
            try:
                compiled.render(facts)
            except TemplateError as error:
                yield str(error)


def _templates(rule: Rule) -> Iterable[tuple[str, str, Template]]:
    for channel, locales in rule.templates.items():
        for locale, template in locales.items():
            yield channel, locale, template
