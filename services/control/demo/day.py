"""Days of a clinic chain's service desk, generated from a seed.

The shape follows published statistics of service-desk logs: the hours (44 % of a day's tickets from eight to twelve, 32 % from one
to five), the weekdays (5 % at weekends), the mix of priorities, how often a ticket changes hands. No record of any log is used.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.contracts.intake import RequesterIn, TicketIn

HOURS = (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 3, 9, 12, 12, 11, 6, 8, 8, 8, 8, 5, 3, 1.5, 1, 0.8, 0.8, 0.5)
"""Percent of a day's tickets in each hour."""
WEEKDAYS = (19.4, 19.3, 19.2, 18.9, 18.3, 3.0, 1.9)
"""Percent of a week's tickets on each day from Monday."""
PRIORITIES = {"urgent": 1.1, "high": 1.6, "normal": 94.2, "low": 3.1}
HANDED_OVER = (0.456, 0.452, 0.553, 0.3)
"""Chance that the first, second, … owner hands a ticket over: 54 % never change hands, 25 % once, 9 % twice."""

TEXTS = (
    ("打印机不出纸", "三楼护士站的打印机一直提示缺纸，重启无效。"),
    ("HIS 挂号界面报错", "挂号时提示连接超时，窗口无法办理。"),
    ("密码忘记了", "医生工作站无法登录，请重置密码。"),
    ("诊室无线网络断网", "二楼诊室 wifi 连不上。"),
    ("电子病历打不开", "点击电子病历后白屏。"),
    ("Scanner does not read barcodes", "The scanner at reception beeps but nothing appears."),
    ("VPN disconnects", "VPN drops every ten minutes from the clinic in Pudong."),
    ("软件安装申请", "请为新同事安装影像软件。"),
    ("医保接口返回错误", "医保结算返回 -1。"),
    ("显示器花屏", "收费处显示器花屏。"),
    ("Account locked", "My account is locked after holidays."),
    ("空调有异响", "机房空调有异响，请派人查看。"),
)
URGENT = (
    ("全院网络瘫痪", "所有诊室断网，停诊中。"),
    ("HIS 宕机", "HIS 无法打开，急诊受影响。"),
    ("Outage of the payment system", "All clinics cannot take payments. Emergency."),
)


GIVEN = {"high": {"impact": "medium", "urgency": "high"}, "low": {"impact": "low", "urgency": "low"}}
"""What the requester says of a ticket that is not ordinary; the urgent ones are recognised by their words."""
ZONE = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A ticket and when it comes."""

    at: datetime
    ticket: TicketIn


def arrivals(start: datetime, count: int, seed: int, days: int = 1) -> list[Arrival]:
    """Tickets of so many days from `start` (midnight of the desk's zone, aware), `count` in all, in order."""
    chance = random.Random(seed)
    week = [WEEKDAYS[(start.astimezone(ZONE) + timedelta(days=day)).weekday()] for day in range(days)]
    found = []
    for number in range(count):
        day, hour = chance.choices(range(days), week)[0], chance.choices(range(24), HOURS)[0]
        at = start + timedelta(days=day, hours=hour, seconds=chance.randrange(3600))
        priority = chance.choices(tuple(PRIORITIES), tuple(PRIORITIES.values()))[0]
        subject, body = chance.choice(URGENT if priority == "urgent" else TEXTS)
        who = chance.randrange(200)
        requester = RequesterIn(id=f"nurse-{who}", name=f"护士 {who}", email=f"nurse{who}@clinic.example")
        source = chance.choices(("phone", "web", "app", "mail"), (4, 3, 2, 1))[0]
        ticket = TicketIn(
            subject=subject, body=body, source=source, external_id=f"demo-{number}", requester=requester,
            labels=dict(GIVEN.get(priority, {})), fields={"clinic": f"C{chance.randrange(1, 13):02}"},
        )  # fmt: skip
        found.append(Arrival(at, ticket))
    return sorted(found, key=lambda one: one.at)


@dataclass(frozen=True, slots=True)
class Habit:
    """What the person who got a ticket does with it, and how long after; None: never. `by_link`: accepts by the message's link."""

    accept: timedelta | None
    by_link: bool = False
    hand_over: timedelta | None = None
    reply: timedelta | None = None
    pause: bool = False
    resolve: timedelta | None = None


def habit(chance: random.Random, owners: int) -> Habit:
    """How this one goes: most are accepted in minutes, some late, a few never; `owners` had it before."""
    kind = chance.random()
    if kind < 0.05:
        return Habit(None)
    minutes = chance.lognormvariate(1.6, 0.8) if kind < 0.9 else chance.uniform(50, 150)
    accept, by_link = timedelta(minutes=minutes), chance.random() < 0.3
    if chance.random() < HANDED_OVER[min(owners, len(HANDED_OVER) - 1)]:
        return Habit(accept, by_link, accept + timedelta(minutes=chance.lognormvariate(2.0, 0.8)))
    reply = accept + timedelta(minutes=chance.lognormvariate(2.2, 0.9))
    resolve = reply + timedelta(minutes=chance.lognormvariate(3.2, 1.0))
    return Habit(accept, by_link, None, reply, chance.random() < 0.14, resolve)
