"""What a person sees and presses: links, buttons and mentions in each provider's own form, cut to its limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from services.notifier.channels.base import Button, Content, Kind
from tests.conformance.cases import CASES, Case, make_driver, make_message, make_net

RICH = Content(
    title="SLA 预警 T-1042",
    text="打印机无法连接",
    markdown="**打印机**无法连接",
    url="https://desk.example.com/t/1042",
    url_label="打开",
    buttons=(Button("接单", "", "accept:tok"), Button("转派", "https://desk.example.com/a/x", "")),
)


def sent(case: Case, content: Content) -> list[Any]:
    """What the fake got for this content, as JSON."""

    async def run() -> list[Any]:
        async with case.fake() as fake:
            net = make_net()
            driver = make_driver(case, fake, net)
            message = msgspec.structs.replace(make_message(case, fake, 1), content=content)
            [outcome] = await driver.send([message])
            assert outcome.kind is Kind.ACCEPTED, outcome
            await driver.close()
            await net.http.close()
            return [
                json.loads(request.body)
                for request in fake.recorded
                if request.method == "POST" and request.body.startswith(b"{")
            ]

    return asyncio.run(run())


def case_of(driver: str) -> Case:
    return next(case for case in CASES if case.driver == driver)


PRESSED = ("wecom_app", "feishu_app", "feishu_bot", "slack")
LINKED = ("dingtalk_work", "dingtalk_robot", "wecom_robot", "teams", *PRESSED, "jpush", "getui")


@pytest.mark.parametrize("driver", PRESSED)
def test_a_button_carries_the_value_that_comes_back(driver: str) -> None:
    body = json.dumps(sent(case_of(driver), RICH)[-1], ensure_ascii=False)
    assert "accept:tok" in body
    assert "接单" in body


@pytest.mark.parametrize("driver", LINKED)
def test_the_link_is_there(driver: str) -> None:
    assert "https://desk.example.com/t/1042" in json.dumps(sent(case_of(driver), RICH)[-1])


HUGE = Content(
    title="长" * 400, text="超时" * 30_000, markdown="**超时**" * 20_000, url="https://desk.example.com/t/1042"
)
ROBOTS = [
    case
    for case in CASES
    if case.driver in ("dingtalk_robot", "wecom_robot", "feishu_bot", "slack", "teams", "wecom_app", "dingtalk_work")
]


@pytest.mark.parametrize("case", ROBOTS, ids=lambda case: case.label or case.driver)
def test_a_text_beyond_the_limit_is_cut_and_still_taken(case: Case) -> None:
    [*_, body] = sent(case, HUGE)
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= 28_000


@pytest.mark.parametrize(("driver", "place"), [("dingtalk_robot", "at"), ("wecom_robot", "text")])
def test_people_are_mentioned_by_user_id_number_or_all(driver: str, place: str) -> None:
    body = sent(case_of(driver), msgspec.structs.replace(RICH, mentions=("zhang", "18600000000", "@all")))[-1]
    text = json.dumps(body[place])
    assert "zhang" in text
    assert "18600000000" in text
    assert "@all" in text or body["at"]["isAtAll"] is True
