"""Every driver with its fake, for the one suite: how to make them, and what each of them promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.notifier.channels import registry
from services.notifier.channels.base import Content, Driver, Message, Net, Options
from services.notifier.channels.http import HttpClient
from tests.fakes.aliyun import FakeAliyun
from tests.fakes.dingtalk import FakeDingTalkRobot, FakeDingTalkWork
from tests.fakes.feishu import FakeFeishuBot
from tests.fakes.signed_http import FakeSignedHttpSms
from tests.fakes.smtp import FakeSmtp
from tests.fakes.webhook import FakeWebhookReceiver
from tests.fakes.wecom import FakeWeComApp, FakeWeComRobot

WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_WHSEC = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="


@dataclass(frozen=True)
class Case:
    """One driver and its fake. `wrong` are secrets the fake must refuse; `address` makes the n-th recipient."""

    driver: str
    fake: Callable[[], Any]
    secrets: Mapping[str, str]
    wrong: Mapping[str, str]
    address: Callable[[int], str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    wrong_kind: str = "bad_account"
    address_from_url: bool = False  # the address is below the fake's own URL
    whole_call_errors: bool = True  # an error answers the whole call and not one recipient of it


CASES = (
    Case(
        "signed_http_sms",
        lambda: FakeSignedHttpSms(WHSEC),
        {"secret": WHSEC},
        {"secret": OTHER_WHSEC},
        lambda n: f"+8618500000{n:03d}",
        whole_call_errors=False,
    ),
    Case(
        "aliyun_sms",
        lambda: FakeAliyun("AKIDEXAMPLE", "SecretExample"),
        {"key_id": "AKIDEXAMPLE", "key_secret": "SecretExample"},
        {"key_id": "AKIDEXAMPLE", "key_secret": "NotTheSecret"},
        lambda n: f"18500000{n:03d}",
        {"sign_name": "演示", "template": "SMS_1"},
    ),
    Case(
        "dingtalk_robot",
        lambda: FakeDingTalkRobot("robot-token", "SECexample"),
        {"token": "robot-token", "secret": "SECexample"},
        {"token": "robot-token", "secret": "SECwrong"},
        lambda n: "ops",
    ),
    Case(
        "dingtalk_work",
        lambda: FakeDingTalkWork("dingkey", "dingsecret"),
        {"app_key": "dingkey", "app_secret": "dingsecret"},
        {"app_key": "dingkey", "app_secret": "wrongsecret"},
        lambda n: f"user{n}",
        {"agent_id": 123},
    ),
    Case(
        "wecom_robot",
        lambda: FakeWeComRobot("key-1"),
        {"key": "key-1"},
        {"key": "key-2"},
        lambda n: "ops",
        wrong_kind="bad_recipient",
    ),
    Case(
        "wecom_app",
        lambda: FakeWeComApp("corp", "corpsecret"),
        {"corp_id": "corp", "corp_secret": "corpsecret"},
        {"corp_id": "corp", "corp_secret": "wrongsecret"},
        lambda n: f"user{n}",
        {"agent_id": 1},
    ),
    Case(
        "feishu_bot",
        lambda: FakeFeishuBot("hook-1", "FSexample"),
        {"hook": "hook-1", "secret": "FSexample"},
        {"hook": "hook-1", "secret": "FSwrong"},
        lambda n: "ops",
    ),
    Case(
        "webhook",
        lambda: FakeWebhookReceiver(WHSEC),
        {"secret": WHSEC},
        {"secret": OTHER_WHSEC},
        lambda n: f"/hooks/{n}",
        wrong_kind="transient",
        address_from_url=True,
    ),
    Case(
        "smtp",
        lambda: FakeSmtp(username="sla", password="mailsecret"),
        {"password": "mailsecret"},
        {"password": "wrongsecret"},
        lambda n: f"user{n}@example.com",
        {"from_address": "sla@example.com", "from_name": "服务台", "username": "sla", "starttls": "off"},
    ),
)


def make_net(http: HttpClient | None = None) -> Net:
    """Wall time of the machine, because the fakes check freshness as the providers do; nonces counted."""
    counter = itertools.count(1)
    return Net(http or HttpClient(connect_seconds=2.0), lambda: datetime.now(UTC), lambda: f"nonce{next(counter):027d}")


def make_driver(
    case: Case, fake: Any, net: Net, *, secrets: Mapping[str, str] | None = None, timeout: float = 5.0
) -> Driver:
    """The driver of a case, pointed at its fake."""
    options = Options(
        case.driver,
        base_url=fake.url,
        secrets=case.secrets if secrets is None else secrets,
        settings=case.settings,
        timeout_seconds=timeout,
        allow=("127.0.0.0/8",),
    )
    return registry.driver_type(case.driver)(options, net)


def make_message(case: Case, fake: Any, number: int, *, urgency: str = "normal", text: str | None = None) -> Message:
    """The n-th message of a test; the same text for all unless one is given."""
    address = case.address(number)
    words = "T-1042 将在 15 分钟后超时" if text is None else text
    return Message(
        f"msg-{number:04d}",
        fake.url + address if case.address_from_url else address,
        Content(
            title="SLA 预警 T-1042",
            text=words,
            html=f"<p>{words}</p>",
            template="SMS_1",
            variables={"ticket": "T-1042", "minutes": "15"},
            payload=b'{"type":"sla.warned","data":{"id":"T-1042"}}',
        ),
        urgency=urgency,
        thread="T-1042",
    )
