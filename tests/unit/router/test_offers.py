"""Offers: whoever acts in time on the present offer decides it; everything else is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from services.router.domain.offers import (
    Answer,
    Offer,
    OfferState,
    Refusal,
    accept,
    decline,
    expire,
    open_offer,
    untouched_until,
    withdraw,
)
from shared.playbook.routing import Group, OfferPolicy, Presence
from shared.playbook.types import Duration

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
POLICY = OfferPolicy(timeout=Duration(minutes=5), on_timeout=Presence.AWAY)
OFFER = open_offer("t1", "g", "ann", 3, POLICY, NOW, frozenset({"bob"}))
END = NOW + timedelta(minutes=5)
TICK = timedelta(microseconds=1)

Act = Callable[[Offer], Answer]
ACTS: dict[str, Act] = {
    "accept": lambda offer: accept(offer, "ann", 3, NOW),
    "accept at the end": lambda offer: accept(offer, "ann", 3, END),
    "accept late": lambda offer: accept(offer, "ann", 3, END + TICK),
    "accept as another": lambda offer: accept(offer, "bob", 3, NOW),
    "accept an older one": lambda offer: accept(offer, "ann", 2, NOW),
    "decline": lambda offer: decline(offer, "ann", 3, POLICY),
    "decline as another": lambda offer: decline(offer, "bob", 3, POLICY),
    "expire": lambda offer: expire(offer, 3, POLICY, END),
    "expire early": lambda offer: expire(offer, 3, POLICY, END - TICK),
    "expire an older one": lambda offer: expire(offer, 2, POLICY, END),
    "withdraw": withdraw,
}

SEQUENCES: list[tuple[list[str], OfferState, Refusal | None, bool]] = [
    (["accept"], OfferState.ACCEPTED, None, True),
    (["accept at the end"], OfferState.ACCEPTED, None, True),
    (["accept late"], OfferState.OPEN, Refusal.TOO_LATE, False),
    (["accept as another"], OfferState.OPEN, Refusal.NOT_YOURS, False),
    (["accept an older one"], OfferState.OPEN, Refusal.STALE, False),
    (["accept", "accept"], OfferState.ACCEPTED, None, False),
    (["accept", "decline"], OfferState.ACCEPTED, Refusal.ENDED, False),
    (["accept", "expire"], OfferState.ACCEPTED, Refusal.ENDED, False),
    (["decline"], OfferState.DECLINED, None, True),
    (["decline", "decline"], OfferState.DECLINED, None, False),
    (["decline", "accept"], OfferState.DECLINED, Refusal.ENDED, False),
    (["decline as another"], OfferState.OPEN, Refusal.NOT_YOURS, False),
    (["expire early"], OfferState.OPEN, Refusal.NOT_DUE, False),
    (["expire an older one"], OfferState.OPEN, Refusal.STALE, False),
    (["expire"], OfferState.TIMED_OUT, None, True),
    (["expire", "expire"], OfferState.TIMED_OUT, Refusal.ENDED, False),
    (["expire", "accept at the end"], OfferState.TIMED_OUT, Refusal.TOO_LATE, False),
    (["withdraw", "accept"], OfferState.WITHDRAWN, Refusal.ENDED, False),
    (["withdraw", "withdraw"], OfferState.WITHDRAWN, Refusal.ENDED, False),
]


@pytest.mark.parametrize(("acts", "state", "refusal", "changed"), SEQUENCES, ids=lambda value: str(value))
def test_acts_on_an_offer(acts: list[str], state: OfferState, refusal: Refusal | None, changed: bool) -> None:
    offer, answer = OFFER, None
    for act in acts:
        answer = ACTS[act](offer)
        offer = answer.offer
    assert answer is not None
    assert (offer.state, answer.refusal, answer.changed) == (state, refusal, changed)


def test_whoever_did_not_take_it_is_not_asked_again_and_a_time_out_sets_their_presence() -> None:
    answer = expire(OFFER, 3, POLICY, END)
    assert answer.next_round == {"ann", "bob"}
    assert answer.presence is Presence.AWAY
    assert decline(OFFER, "ann", 3, POLICY).presence is None


def test_an_untouched_assignment_goes_back_after_the_groups_time() -> None:
    assert untouched_until(Group(members=("a",), untouched=Duration(minutes=30)), NOW) == NOW + timedelta(minutes=30)
    assert untouched_until(Group(members=("a",)), NOW) is None
