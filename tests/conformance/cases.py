"""Every driver with its fake, for the one suite: how to make them, and what each of them promises."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.notifier.channels import registry
from services.notifier.channels.base import Content, Driver, Message, Net, Options
from services.notifier.channels.http import HttpClient
from tests.fakes.aliyun import FakeAliyun
from tests.fakes.dingtalk import FakeDingTalkRobot, FakeDingTalkWork
from tests.fakes.feishu import FakeFeishuBot
from tests.fakes.feishu_app import FakeFeishuApp
from tests.fakes.mobile import FakeApns, FakeFcm
from tests.fakes.push import FakeGetui, FakeJPush, FakeWebPush
from tests.fakes.signed_http import FakeSignedHttpSms
from tests.fakes.slack import FakeSlack, FakeTeamsConnector, FakeTeamsWorkflow
from tests.fakes.smpp import FakeSmpp
from tests.fakes.smtp import FakeSmtp
from tests.fakes.tencent import FakeTencent
from tests.fakes.twilio import FakeTwilio
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
    address_of: Callable[[Any, str], str] = lambda fake, address: address  # when it needs the running fake
    by_status: bool = False  # success is told by the HTTP status alone
    label: str = ""
    settings_of: Callable[[Any], Mapping[str, Any]] | None = None  # when they need the running fake
    throttle_kind: str = "throttled"


CASES: tuple[Case, ...] = (
    Case(
        "signed_http_sms",
        lambda: FakeSignedHttpSms(WHSEC),
        {"secret": WHSEC},
        {"secret": OTHER_WHSEC},
        lambda n: f"+8618500000{n:03d}",
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
        address_of=lambda fake, address: fake.url + address,
        by_status=True,
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

VAPID_KEY = ec.derive_private_key(11, ec.SECP256R1())
VAPID_PUBLIC = VAPID_KEY.public_key().public_bytes(
    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
)
TEAMS_PATH = "/workflows/abc/triggers/manual/paths/invoke?api-version=2016-06-01&sig=teamssecret"


RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)


def _account(key: rsa.RSAPrivateKey) -> str:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return json.dumps({"client_email": "sla@p.example", "private_key": pem.decode(), "project_id": "p"})


def _vapid(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode()


CASES += (
    Case(
        "tencent_sms",
        lambda: FakeTencent("AKID", "SecretExample"),
        {"secret_id": "AKID", "secret_key": "SecretExample"},
        {"secret_id": "AKID", "secret_key": "NotTheSecret"},
        lambda n: f"+8618500000{n:03d}",
        {"app_id": "1400006666", "sign_name": "Demo", "template": "1110"},
    ),
    Case(
        "twilio",
        lambda: FakeTwilio("AC1", "authtoken"),
        {"account_sid": "AC1", "auth_token": "authtoken"},
        {"account_sid": "AC1", "auth_token": "wrongtoken"},
        lambda n: f"+1500555{n:04d}",
        {"sender": "+15005550006"},
    ),
    Case(
        "feishu_app",
        lambda: FakeFeishuApp("cli_1", "appsecret"),
        {"app_id": "cli_1", "app_secret": "appsecret"},
        {"app_id": "cli_1", "app_secret": "wrongsecret"},
        lambda n: f"ou_{n}",
    ),
    Case(
        "slack",
        lambda: FakeSlack("T1/B1/hooksecret"),
        {"hook": "T1/B1/hooksecret"},
        {"hook": "T1/B1/wronghook"},
        lambda n: "ops",
    ),
    Case(
        "teams",
        lambda: FakeTeamsWorkflow(TEAMS_PATH),
        {"path": TEAMS_PATH},
        {"path": TEAMS_PATH + "x"},
        lambda n: "ops",
        wrong_kind="bad_recipient",
        by_status=True,
    ),
    Case(
        "teams",
        lambda: FakeTeamsConnector(TEAMS_PATH),
        {"path": TEAMS_PATH},
        {"path": TEAMS_PATH + "x"},
        lambda n: "ops",
        {"connector": True},
        wrong_kind="bad_recipient",
        label="teams connector",
    ),
    Case(
        "smpp",
        lambda: FakeSmpp("esme", "smpppass"),
        {"system_id": "esme", "password": "smpppass"},
        {"system_id": "esme", "password": "wrongpas"},
        lambda n: f"+8618500000{n:03d}",
        {"sender": "Desk"},
    ),
    Case(
        "apns",
        lambda: FakeApns(VAPID_PUBLIC),
        {"private_key": _vapid(11)},
        {"private_key": _vapid(12)},
        lambda n: f"{n:064x}",
        {"key_id": "KEY1", "team_id": "TEAM1", "topic": "com.example.desk"},
        by_status=True,
        throttle_kind="capped_recipient",
    ),
    Case(
        "fcm",
        lambda: FakeFcm(RSA_KEY.public_key()),
        {"service_account": _account(RSA_KEY)},
        {"service_account": _account(OTHER_RSA_KEY)},
        lambda n: f"token{n}",
        settings_of=lambda fake: {"token_url": fake.google.url + "/token"},
    ),
    Case(
        "jpush",
        lambda: FakeJPush("appkey1", "mastersecret"),
        {"app_key": "appkey1", "master_secret": "mastersecret"},
        {"app_key": "appkey1", "master_secret": "wrongsecret"},
        lambda n: f"reg{n}",
    ),
    Case(
        "getui",
        lambda: FakeGetui("appkey1", "mastersecret"),
        {"app_key": "appkey1", "master_secret": "mastersecret"},
        {"app_key": "appkey1", "master_secret": "wrongsecret"},
        lambda n: f"cid{n}",
    ),
    Case(
        "web_push",
        lambda: FakeWebPush(VAPID_PUBLIC),
        {"private_key": _vapid(11)},
        {"private_key": _vapid(12)},
        lambda n: f"/push/{n}",
        {"subject": "mailto:sla@example.com"},
        address_of=lambda fake, address: fake.subscription(address),
        by_status=True,
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
        settings=case.settings if case.settings_of is None else case.settings_of(fake),
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
        case.address_of(fake, address),
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
