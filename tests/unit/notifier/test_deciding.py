"""Wishes, caps, health of providers and verdicts: pure tables of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from services.notifier.caps import share
from services.notifier.channels.base import Kind, Outcome
from services.notifier.health import Seen, State, observe
from services.notifier.outcomes import is_retry, judge, judge_look
from services.notifier.planning import choose
from services.notifier.polling import AFTER, next_poll, sent_at
from services.notifier.routing import GRID, Budget, on_grid
from services.notifier.rows import Row
from services.notifier.wishes import quiet_until, wish
from shared.contracts.providers.receipts import ReceiptState
from shared.directory.people import Group, Person, snapshot
from shared.playbook.messages import Cap, Provider, Rule
from shared.playbook.types import decode

NOW = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)  # ten in the morning in Shanghai


def rule(**members: Any) -> Rule:
    base = {
        "name": "assigned", "on": ["ticket.assigned"], "audience": [{"to": ["assignee"]}], "plan": [{"channel": "sms"}],
        "templates": {"any": {"en": {"text": "x"}}},
    }  # fmt: skip
    return decode(base | members, Rule)


def row(**members: Any) -> Row:
    base: dict[str, Any] = {
        "id": 1, "version": 0, "ticket_id": 7, "rule": "assigned", "playbook": 1, "event_type": "ticket.assigned", "event": {},
        "recipient": "ann", "channel": "sms", "provider": "a", "address": "1", "locale": None, "urgency": "normal",
        "on_unknown": "keep", "state": "planned", "epoch": 0, "failures": 0, "provider_id": None, "valid_until": None,
        "attempts": [], "created_at": NOW,
    }  # fmt: skip
    return Row(**(base | members))


# ---- wishes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "team", "forced", "wanted"),
    [
        ({}, {}, False, None),
        ({"assigned": {"sms": "off"}}, {}, False, "turned off by ann (assigned on sms)"),
        ({"*": {"*": "off"}}, {}, False, "turned off by ann (* on *)"),
        ({"*": {"*": "off"}, "assigned": {"*": "on"}}, {}, False, None),
        ({"ticket.assigned": {"sms": "off"}, "assigned": {"sms": "on"}}, {}, False, None),
        ({}, {"*": {"sms": "off"}}, False, "turned off by the team desk (* on sms)"),
        ({"*": {"sms": "on"}}, {"*": {"sms": "off"}}, False, None),
        ({"*": {"*": "off"}}, {"*": {"*": "off"}}, True, None),
    ],
)
def test_the_nearest_word_about_a_topic_and_channel_counts_and_forced_ones_go(
    person: dict[str, Any], team: dict[str, Any], forced: bool, wanted: str | None
) -> None:
    ann = Person(id="ann", groups=("desk",), preferences=person)
    directory = snapshot([ann], [Group(id="desk", preferences=team)])
    assert wish(rule(forced=forced), "ticket.assigned", "sms", ann, directory, NOW).off == wanted


def test_quiet_hours_are_read_in_the_persons_own_zone_and_end_on_the_right_day() -> None:
    assert quiet_until("22:00-07:00", "Asia/Shanghai", NOW) is None
    late = datetime(2026, 3, 3, 15, 30, tzinfo=UTC)  # 23:30 there
    assert quiet_until("22:00-07:00", "Asia/Shanghai", late) == datetime(2026, 3, 3, 23, 0, tzinfo=UTC)
    early = datetime(2026, 3, 3, 22, 59, tzinfo=UTC)  # 06:59 there, a day later
    assert quiet_until("22:00-07:00", "Asia/Shanghai", early) == datetime(2026, 3, 3, 23, 0, tzinfo=UTC)
    assert quiet_until("22:00-07:00", "Asia/Shanghai", datetime(2026, 3, 3, 23, 0, tzinfo=UTC)) is None
    assert quiet_until("12:00-13:00", "UTC", datetime(2026, 3, 3, 12, 0, tzinfo=UTC)) == datetime(
        2026, 3, 3, 13, 0, tzinfo=UTC
    )


def test_quiet_hours_hold_downgrade_or_let_pass_as_the_rule_says() -> None:
    night = datetime(2026, 3, 3, 15, 30, tzinfo=UTC)
    ann = Person(id="ann", quiet_hours="22:00-07:00", zone="Asia/Shanghai")
    directory = snapshot([ann], [])
    held = wish(rule(quiet="hold"), "ticket.assigned", "sms", ann, directory, night)
    assert (held.hold_until, held.reason) == (
        datetime(2026, 3, 3, 23, 0, tzinfo=UTC),
        "held: quiet hours of ann until 07:00 (Asia/Shanghai)",
    )
    lowered = wish(rule(quiet="downgrade"), "ticket.assigned", "sms", ann, directory, night)
    assert lowered.off == "quiet hours of ann until 07:00 (Asia/Shanghai): the inbox only"
    assert wish(rule(quiet="pass"), "ticket.assigned", "sms", ann, directory, night).off is None
    assert wish(rule(quiet="hold"), "ticket.assigned", "inbox", ann, directory, night).hold_until is None


# ---- caps -----------------------------------------------------------------------------------------------------------------


def test_the_first_alarm_of_a_ticket_goes_ahead_of_the_fifth_of_another() -> None:
    caps = [decode({"limit": 5, "per": "1m"}, Cap)]
    sent = [("sms", 7, NOW - timedelta(seconds=50 - n)) for n in range(4)]
    fifth, first = row(id=10, ticket_id=7), row(id=11, ticket_id=8)
    waits = share(caps, [fifth, first], list(sent), NOW)
    assert set(waits) == {10}
    assert waits[10].until == NOW - timedelta(seconds=50) + timedelta(minutes=1)
    assert waits[10].gather == "cap|ann|sms"
    assert waits[10].reason == "at most 5 messages in 1m: collected until then"


def test_several_windows_hold_together_and_only_for_their_channel() -> None:
    caps = [decode({"limit": 1, "per": "10s"}, Cap), decode({"limit": 2, "per": "1h", "channel": "sms"}, Cap)]
    old = [("sms", 1, NOW - timedelta(minutes=30)), ("sms", 2, NOW - timedelta(minutes=20))]
    assert share(caps, [row(id=5, channel="mail")], list(old), NOW) == {}
    assert share(caps, [row(id=5)], list(old), NOW)[5].until == NOW + timedelta(minutes=30)
    assert share(caps, [row(id=5, channel="inbox")], list(old), NOW) == {}


# ---- health ---------------------------------------------------------------------------------------------------------------


def test_a_bad_account_opens_at_once_and_a_probe_that_succeeds_closes_with_a_tenth() -> None:
    state, why = observe(State("a"), Seen((Kind.BAD_ACCOUNT,), codes="isv.OUT_OF_SERVICE"), NOW)
    assert state.is_open
    assert why == "opened: the account was refused (isv.OUT_OF_SERVICE)"
    assert not state.may_probe(NOW + timedelta(seconds=4.9))
    assert state.may_probe(NOW + timedelta(seconds=5))
    failed, _ = observe(state, Seen((Kind.TRANSIENT,)), NOW + timedelta(seconds=5))
    assert (failed.is_open, failed.pause_seconds) == (True, 10)
    healed, why = observe(failed, Seen((Kind.ACCEPTED,)), NOW + timedelta(seconds=15))
    assert (healed.is_open, healed.share) == (False, 0.1)
    assert why is not None


def test_a_share_falls_at_once_and_comes_back_one_good_window_at_a_time() -> None:
    state, at = State("a"), NOW
    story = []
    for trouble in (10, 0, 3, 0, 0):
        kinds = (Kind.ACCEPTED,) * (20 - trouble) + (Kind.TRANSIENT,) * min(trouble, 7)
        kinds += (Kind.ACCEPTED,) + (Kind.TRANSIENT,) * (trouble - min(trouble, 7))
        state, _ = observe(state, Seen(kinds), at)
        at += timedelta(seconds=31)
        state, _ = observe(state, Seen(), at)
        story.append(state.share)
    assert story == [0.5, 1.0, 1.0, 1.0, 1.0]  # 10 of 21 are bad; 3 of 21 neither bad nor good
    worse, _ = observe(State("a", fine=8, trouble=12, window_at=NOW), Seen(), NOW + timedelta(seconds=31))
    assert worse.share == 0.1
    better, _ = observe(replace(worse, fine=100), Seen(), worse.window_at + timedelta(seconds=31))  # type: ignore[operator]
    assert better.share == 0.5


def test_late_receipts_take_half_of_a_share_and_throttling_takes_nothing() -> None:
    state, _ = observe(State("a"), Seen((Kind.ACCEPTED,) * 30, receipts=30, late=10), NOW)
    state, why = observe(state, Seen(), NOW + timedelta(seconds=31))
    assert (state.share, why) == (0.5, "share 1 to 0.5: 33% of receipts came late")
    busy, why = observe(State("a"), Seen((Kind.THROTTLED,) * 50), NOW)
    assert (busy.in_a_row, busy.is_open, why) == (0, False, None)


def test_messages_spread_by_weight_times_share_and_stay_where_they_are() -> None:
    two = [Provider(name="a", driver="smtp", weight=300), Provider(name="b", driver="smtp", weight=100)]
    at_rest = [choose(two, number) for number in range(4000)]
    assert 0.70 < sum(one is two[0] for one in at_rest) / 4000 < 0.80
    moved = [choose(two, number, {"a": 0.1}) for number in range(4000)]
    assert 0.18 < sum(one is two[0] for one in moved) / 4000 < 0.28
    assert choose(two, 17) is choose(two, 17)
    assert choose([], 17) is None


def test_retries_are_a_tenth_of_first_attempts() -> None:
    budget = Budget()
    assert sum(budget.allows("a", NOW, retry=True) for _ in range(1000)) == 20
    for _ in range(1000):
        assert budget.allows("a", NOW, retry=False)
    assert sum(budget.allows("a", NOW, retry=True) for _ in range(1000)) in (99, 100)
    later = NOW + timedelta(seconds=10)
    assert sum(budget.allows("a", later, retry=True) for _ in range(1000)) in (10, 11)


def test_what_our_own_sender_lost_is_no_retry() -> None:
    lost_ones = [{"outcome": "unknown", "code": "sender_lost"}, {"outcome": "lookup nothing"}]
    assert not is_retry(row(failures=1, attempts=lost_ones))
    assert is_retry(row(failures=1, attempts=[{"outcome": "transient", "code": "503"}]))
    assert not is_retry(row())


# ---- verdicts -------------------------------------------------------------------------------------------------------------


def test_an_unknown_is_looked_up_first_and_only_then_decided_by_its_class() -> None:
    unknown = Outcome(Kind.UNKNOWN, code="no_answer")
    looked = judge(row(), unknown, NOW, 0.5, can_look=True)
    assert (looked.state, looked.retry_at) == ("unknown", NOW + timedelta(seconds=5))
    assert judge(row(), unknown, NOW, 0.5).retry_at is None
    assert judge(row(on_unknown="resend"), unknown, NOW, 0.5).retry_at is not None


def test_what_a_look_up_finds_decides() -> None:
    arrived = judge_look(row(state="unknown"), Outcome(Kind.ACCEPTED, state=ReceiptState.DELIVERED), NOW, 0.5)
    assert (arrived.state, arrived.event, arrived.retry_at) == ("delivered", "delivered", None)
    never = judge_look(row(state="unknown", failures=1), None, NOW, 0.5)
    assert (never.state, never.reason) == ("held", "looked up: it never arrived")
    assert never.retry_at is not None
    cannot_say = Outcome(Kind.UNKNOWN)
    looks = [{"outcome": "unknown"}, {"outcome": "lookup unknown"}, {"outcome": "lookup unknown"}]
    assert judge_look(row(attempts=looks[:1], failures=1), cannot_say, NOW, 0.5).retry_at is not None
    assert judge_look(row(attempts=looks, failures=1), cannot_say, NOW, 0.5).retry_at is None
    assert judge_look(row(attempts=looks, failures=1, on_unknown="resend"), cannot_say, NOW, 0.5).retry_at is not None


def test_retries_have_full_jitter_and_obey_what_the_provider_asks_for_up_to_a_day() -> None:
    trouble = Outcome(Kind.TRANSIENT)
    pauses = {judge(row(failures=2), trouble, NOW, jitter).retry_at for jitter in (0.0, 0.5, 0.999)}
    assert {round((at - NOW).total_seconds(), 1) for at in pauses if at} == {0.1, 7.5, 15.0}
    asked = judge(row(), Outcome(Kind.TRANSIENT, after=timedelta(days=9)), NOW, 0.5)
    assert asked.retry_at == NOW + timedelta(days=1)
    assert judge(row(failures=4), trouble, NOW, 0.5).state == "failed"


# ---- waiting and asking ----------------------------------------------------------------------------------------------------


def test_what_waits_for_a_dead_provider_comes_due_together_and_never_early() -> None:
    instants = [NOW + timedelta(seconds=second / 10) for second in range(400)]
    kept = [on_grid(at) for at in instants]
    assert all(timedelta(0) <= after - at < GRID for at, after in zip(instants, kept, strict=True))
    assert len(set(kept)) == 9
    assert on_grid(kept[0]) == kept[0]


def test_a_message_is_asked_about_less_and_less_often_and_not_for_ever() -> None:
    asked, now = [], NOW
    while (at := next_poll(NOW, now)) is not None:
        asked.append(at - NOW)
        now = at
    assert asked == list(AFTER)
    gaps = [b - a for a, b in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert next_poll(NOW, NOW + timedelta(days=1)) is None


def test_a_message_was_sent_when_its_last_accepted_attempt_was() -> None:
    attempts = [
        {"at": "2026-03-03T01:00:00Z", "outcome": "unknown"},
        {"at": "2026-03-03T02:00:00Z", "outcome": "accepted"},
        {"at": "2026-03-03T03:00:00Z", "outcome": "receipt delivered"},
    ]
    assert sent_at(row(attempts=attempts)) == NOW
    assert sent_at(row(attempts=attempts[:1])) is None
