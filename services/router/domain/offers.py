"""Offers: accept, decline, time out; and what happens to an assignment that nobody touches.

An offer carries the number of the ticket's assignment (`generation`). Whatever arrives with an older number, from
another person, or after the end is refused with a reason, as a value; repeating what already holds is accepted and
changes nothing. Exactly at `expires_at` is in time, and from then on the time-out may fire: whoever gets the ticket's
lock first decides.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from shared.playbook.routing import Group, OfferPolicy, Presence


class OfferState(StrEnum):
    """Where an offer stands."""

    OPEN = "open"  # waiting for the person
    ACCEPTED = "accepted"
    DECLINED = "declined"
    TIMED_OUT = "timed_out"
    WITHDRAWN = "withdrawn"  # the ticket went elsewhere or ended


class Offer(msgspec.Struct, frozen=True):
    """One person is asked to take one ticket; `round_declined` are those who were asked before in this round."""

    ticket: int | str
    group: str
    agent: str
    generation: int
    offered_at: datetime
    expires_at: datetime
    state: OfferState = OfferState.OPEN
    round_declined: frozenset[str] = frozenset()


class Refusal(StrEnum):
    """Why an answer to an offer no longer counts."""

    STALE = "stale"  # a newer assignment exists
    NOT_YOURS = "not_yours"
    TOO_LATE = "too_late"
    ENDED = "ended"  # declined, timed out or withdrawn before
    NOT_DUE = "not_due"  # a time-out that came early


class Answer(msgspec.Struct, frozen=True):
    """What came of an act on an offer: the offer as it is now, and either a refusal or whether anything changed.

    `presence` is what the person's presence becomes; `next_round` are those who are not to be asked again for this
    ticket.
    """

    offer: Offer
    refusal: Refusal | None = None
    changed: bool = False
    presence: Presence | None = None
    next_round: frozenset[str] = frozenset()


def open_offer(
    ticket: int | str,
    group: str,
    agent: str,
    generation: int,
    policy: OfferPolicy,
    now: datetime,
    declined: frozenset[str] = frozenset(),
) -> Offer:
    """Return the offer that is made now."""
    return Offer(ticket, group, agent, generation, now, now + policy.timeout, OfferState.OPEN, declined)


def accept(offer: Offer, agent: str, generation: int, now: datetime) -> Answer:
    """The person takes it. A late one is refused, also when the time-out has not been noticed yet."""
    refusal = _refusal(offer, agent, generation)
    if refusal is not None:
        return Answer(offer, refusal)
    if offer.state is OfferState.ACCEPTED:
        return Answer(offer)
    if offer.state is not OfferState.OPEN:
        return Answer(offer, Refusal.TOO_LATE if offer.state is OfferState.TIMED_OUT else Refusal.ENDED)
    if now > offer.expires_at:
        return Answer(offer, Refusal.TOO_LATE)
    return Answer(msgspec.structs.replace(offer, state=OfferState.ACCEPTED), changed=True)


def decline(offer: Offer, agent: str, generation: int, policy: OfferPolicy) -> Answer:
    """The person does not take it; the next one is asked."""
    refusal = _refusal(offer, agent, generation)
    if refusal is not None:
        return Answer(offer, refusal)
    if offer.state is OfferState.DECLINED:
        return Answer(offer)
    if offer.state is not OfferState.OPEN:
        return Answer(offer, Refusal.ENDED)
    return _over(offer, OfferState.DECLINED, policy.on_decline)


def expire(offer: Offer, generation: int, policy: OfferPolicy, now: datetime) -> Answer:
    """The time is over. Never early; a time-out of an answered or older offer changes nothing."""
    if generation != offer.generation:
        return Answer(offer, Refusal.STALE)
    if offer.state is not OfferState.OPEN:
        return Answer(offer, Refusal.ENDED)
    if now < offer.expires_at:
        return Answer(offer, Refusal.NOT_DUE)
    return _over(offer, OfferState.TIMED_OUT, policy.on_timeout)


def withdraw(offer: Offer) -> Answer:
    """The ticket was transferred, resolved or taken by hand."""
    if offer.state is not OfferState.OPEN:
        return Answer(offer, Refusal.ENDED)
    return Answer(msgspec.structs.replace(offer, state=OfferState.WITHDRAWN), changed=True)


def untouched_until(group: Group, assigned_at: datetime) -> datetime | None:
    """Return when an assignment that nobody touched goes back to the queue; `None` where it stays."""
    return None if group.untouched is None else assigned_at + group.untouched


def _refusal(offer: Offer, agent: str, generation: int) -> Refusal | None:
    if generation != offer.generation:
        return Refusal.STALE
    return None if agent == offer.agent else Refusal.NOT_YOURS


def _over(offer: Offer, state: OfferState, presence: Presence | None) -> Answer:
    return Answer(
        msgspec.structs.replace(offer, state=state),
        changed=True,
        presence=presence,
        next_round=offer.round_declined | {offer.agent},
    )
