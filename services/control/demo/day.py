"""A day of a clinic chain's service desk, generated from a seed.

The shape follows published statistics of service-desk logs: most tickets between eight and seventeen with a dip at noon, about
one in twenty-five urgent, one in ten answered late, one in seven waiting for somebody outside. No record of any log is used.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.intake import RequesterIn, TicketIn

HOURS = (1, 1, 1, 1, 1, 2, 4, 9, 14, 15, 13, 9, 6, 9, 12, 11, 9, 7, 4, 3, 2, 2, 1, 1)
"""Weight of each hour of the day."""

TEXTS = (
    ("打印机不出纸", "三楼护士站的打印机一直提示缺纸，重启无效。"),
    ("HIS 挂号界面报错", "挂号时提示连接超时，窗口排队。"),
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


@dataclass(frozen=True, slots=True)
class Arrival:
    """A ticket and when it comes."""

    at: datetime
    ticket: TicketIn


def arrivals(start: datetime, count: int, seed: int) -> list[Arrival]:
    """A day's tickets from `start` (midnight of the desk's zone, aware), in order."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        hour = chance.choices(range(24), HOURS)[0]
        at = start + timedelta(hours=hour, seconds=chance.randrange(3600))
        subject, body = chance.choice(URGENT) if chance.random() < 0.04 else chance.choice(TEXTS)
        who = chance.randrange(200)
        requester = RequesterIn(id=f"nurse-{who}", name=f"护士 {who}", email=f"nurse{who}@clinic.example")
        source = chance.choices(("phone", "web", "app", "mail"), (4, 3, 2, 1))[0]
        ticket = TicketIn(
            subject=subject, body=body, source=source, external_id=f"demo-{number}", requester=requester,
            fields={"clinic": f"C{chance.randrange(1, 13):02}"},
        )  # fmt: skip
        found.append(Arrival(at, ticket))
    return sorted(found, key=lambda one: one.at)


@dataclass(frozen=True, slots=True)
class Habit:
    """What the person who got a ticket does with it, and how long after; None: never."""

    accept: timedelta | None
    reply: timedelta | None
    pause: bool
    resolve: timedelta | None


def habit(chance: random.Random) -> Habit:
    """How this one goes: most are accepted in minutes, some late, a few never."""
    kind = chance.random()
    if kind < 0.05:
        return Habit(None, None, False, None)
    minutes = chance.lognormvariate(1.6, 0.8) if kind < 0.9 else chance.uniform(50, 150)
    accept = timedelta(minutes=minutes)
    reply = accept + timedelta(minutes=chance.lognormvariate(2.2, 0.9))
    resolve = reply + timedelta(minutes=chance.lognormvariate(3.2, 1.0))
    return Habit(accept, reply, chance.random() < 0.14, resolve)
