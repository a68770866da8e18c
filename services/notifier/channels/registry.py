"""Drivers by the name a playbook gives them. Modules are imported on first use: most deployments need three of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

import msgspec

from services.notifier.channels.base import Driver, Net, Options
from services.notifier.errors import ConfigError
from shared.playbook.messages import Provider, SecretRef

_DRIVERS = {
    "inbox": "inbox:InboxDriver",
    "smtp": "smtp:SmtpDriver",
    "signed_http_sms": "signed_http:SignedHttpSmsDriver",
    "aliyun_sms": "aliyun:AliyunSmsDriver",
    "dingtalk_robot": "dingtalk:DingTalkRobotDriver",
    "dingtalk_work": "dingtalk:DingTalkWorkNoticeDriver",
    "wecom_robot": "wecom:WeComRobotDriver",
    "wecom_app": "wecom:WeComAppDriver",
    "feishu_bot": "feishu:FeishuBotDriver",
    "tencent_sms": "tencent:TencentSmsDriver",
    "twilio": "twilio:TwilioDriver",
    "feishu_app": "feishu_app:FeishuAppDriver",
    "slack": "slack:SlackWebhookDriver",
    "teams": "teams:TeamsDriver",
    "jpush": "jpush:JPushDriver",
    "getui": "getui:GetuiDriver",
    "web_push": "web_push:WebPushDriver",
    "apns": "apns:ApnsDriver",
    "fcm": "fcm:FcmDriver",
    "apprise": "apprise_pool:AppriseDriver",
    "smpp": "smpp:SmppDriver",
    "webhook": "webhook:WebhookDriver",
}


def names() -> tuple[str, ...]:
    """Every driver a playbook may name."""
    return tuple(sorted(_DRIVERS))


@cache
def driver_type(name: str) -> type[Driver]:
    """The class of a driver; raises `ConfigError` for a name nobody knows, or a package that is not installed."""
    try:
        module, _, attribute = _DRIVERS[name].partition(":")
    except KeyError:
        raise ConfigError(f"no driver is called {name!r}; there are {', '.join(names())}") from None
    try:
        found: type[Driver] = getattr(import_module(f"services.notifier.channels.{module}"), attribute)
    except ImportError as error:
        raise ConfigError(f"driver {name} needs a package that is not installed: {error}") from error
    return found


def build(provider: Provider, net: Net, read_secret: Callable[[SecretRef], str]) -> Driver:
    """The driver of a provider entry; `read_secret` finds what `{env: …}` or `{file: …}` names.

    Raises `ConfigError` naming the provider for whatever cannot work. Call it in the loop the driver will live in.
    """
    options = Options(
        name=provider.name,
        base_url=provider.base_url,
        secrets={name: read_secret(reference) for name, reference in provider.secrets.items()},
        settings=provider.settings,
        timeout_seconds=provider.timeout.total_seconds(),
        concurrency=provider.concurrency,
        allow=provider.allow,
    )
    return driver_type(provider.driver)(options, net)


def problems(provider: Provider) -> list[str]:
    """What is wrong with a provider entry before any secret is read: for `signalbox check`. Empty when sound."""
    try:
        kind = driver_type(provider.driver)
    except ConfigError as error:
        return [str(error)]
    found = [f"secret {name!r} is missing" for name in kind.secrets if name not in provider.secrets]
    try:
        msgspec.convert(dict(provider.settings), kind.settings_type)
    except msgspec.ValidationError as error:
        found.append(f"settings: {error}")
    return found
