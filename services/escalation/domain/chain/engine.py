"""The chain engine: `start` copies the policy, `decide` applies what people did and then takes the steps that are due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from services.escalation.domain.chain import acknowledge, delays, targets
from services.escalation.domain.chain.state import (
    Acknowledge,
    Acknowledged,
    Cause,
    ChainState,
    Command,
    Decision,
    Done,
    Effect,
    End,
    Ended,
    EscalateNow,
    Exhausted,
    Facts,
    MoveDue,
    Pause,
    Raised,
    Resume,
    Status,
    Stepped,
)
from services.escalation.domain.chain.view import View
from shared.playbook.escalation import Chain, Step

NOBODY_REACHED = "a round of the chain reached nobody"
NOBODY_ANSWERED = "nobody acknowledged"


def start(escalation: int, chain: Chain, cause: Cause, view: View, now: datetime) -> ChainState:
    """A new chain that holds its own copy of the policy; nothing has happened yet, `decide` takes it from here.

    `escalation` is the caller's number for it. May be called ahead of `cause.stalled_at`, for steps before the due instant.
    """
    state = ChainState(escalation=escalation, chain=chain, cause=cause)
    return _arm(state, 0, delays.first_round_due(chain, cause, 0, now, view))


def decide(
    state: ChainState,
    commands: Sequence[Command],
    facts: Facts,
    view: View,
    now: datetime,
    *,
    timer: int | None = None,
) -> Decision:
    """What the chain does at `now`, after `commands` (in the order they happened), may be called any time and again.

    `timer`: the generation of the timer that woke the caller; when another one was set since, nothing falls due by it.
    A step taken late is taken at `now`, and what follows it counts from there.
    """
    run = _Run(state, facts, view, now)
    for command in commands:
        run.apply(command)
    stale = timer is not None and timer != state.generation
    if not stale:
        run.catch_up()
    return Decision(run.state, tuple(run.effects), run.wake_at(), _reason(run, stale))


def _reason(run: _Run, stale: bool) -> str:
    state = run.state
    if stale and not run.effects:
        return "stale timer"
    if run.effects:
        return {
            Raised: "raised",
            Stepped: "stepped",
            Acknowledged: "acknowledged",
            Exhausted: "exhausted",
            Ended: "ended",
        }[type(run.effects[-1])]
    if state.status is not Status.ACTIVE:
        return str(state.status)
    if state.paused:
        return "paused"
    return "held" if run.facts.held and state.due_at is not None and state.due_at <= run.now else "not due"


def _arm(state: ChainState, step: int, due_at: datetime | None, **changes: Any) -> ChainState:
    """The state waiting for `step` (or for whatever its status waits for) at `due_at`, under a new generation."""
    state = msgspec.structs.replace(state, step=step, due_at=due_at, generation=state.generation + 1, **changes)
    for_step = state.status is Status.ACTIVE and step < len(state.chain.steps)
    return msgspec.structs.replace(state, counts_open=for_step and state.chain.steps[step].on == "open")


@dataclass(slots=True)
class _Run:
    """One call of `decide`: the state as it goes, and the effects so far."""

    state: ChainState
    facts: Facts
    view: View
    now: datetime
    effects: list[Effect] = field(default_factory=list)

    # ---- what people did

    def apply(self, command: Command) -> None:
        """A command that no longer applies changes nothing."""
        if self.state.status is Status.ENDED:
            return
        match command:
            case Acknowledge():
                self._acknowledge(command)
            case EscalateNow():
                self._escalate_now()
            case Pause():
                self._pause(command.at)
            case Resume():
                self._resume(command.at)
            case MoveDue():
                self._move_due(command)
            case End():
                self._end(command)

    def _acknowledge(self, command: Acknowledge) -> None:
        if self.state.status is Status.ACKNOWLEDGED:
            return
        answer = acknowledge.answer(self.state, command.by, command.at, self.view)
        if answer is None:
            return
        if not answer.complete:
            self.state = msgspec.structs.replace(self.state, acknowledged_by=answer.by)
            self.effects.append(Acknowledged(command.at, command.by, complete=False))
            return
        expires = self.state.chain.acknowledge.expires
        expires_at = command.at + expires if expires is not None else None
        self._wait(expires_at, self.state.step, status=Status.ACKNOWLEDGED, acknowledged_by=answer.by)
        self.effects.append(Acknowledged(command.at, command.by, complete=True, expires_at=expires_at))

    def _escalate_now(self) -> None:
        if self.state.step >= len(self.state.chain.steps):
            self._next_round()
        if self.facts.held:
            # Held back like any other step: due now, taken when released.
            self._wait(self.now, self.state.step, status=Status.ACTIVE)
        else:
            self._take(self.state.step)

    def _pause(self, at: datetime) -> None:
        if self.state.paused:
            return
        state = self.state
        frozen = None
        if state.due_at is not None:
            frozen = delays.freeze(state.chain, state.due_at, at, state.counts_open, self.view)
        self.state = _arm(state, state.step, None, paused=True, frozen=frozen)

    def _resume(self, at: datetime) -> None:
        state = self.state
        if not state.paused:
            return
        due_at = delays.thaw(state.chain, state.frozen, at, self.view) if state.frozen is not None else None
        self.state = _arm(state, state.step, due_at, paused=False, frozen=None)

    def _move_due(self, command: MoveDue) -> None:
        """Steps still to come count from the new due instant; what was taken stays taken."""
        state = self.state
        if state.cause.due_at == command.due_at:
            return
        untouched = not state.raised and state.last_step_at is None
        stall_moves = untouched and state.cause.stalled_at == state.cause.due_at
        cause = msgspec.structs.replace(
            state.cause, due_at=command.due_at, stalled_at=command.due_at if stall_moves else state.cause.stalled_at
        )
        self.state = state = msgspec.structs.replace(state, cause=cause)
        waiting = state.status is Status.ACTIVE and state.round == 1 and state.step < len(state.chain.steps)
        if waiting and (stall_moves or state.chain.steps[state.step].relative_to == "due"):
            previous = state.last_step_at or command.at
            self._wait(delays.first_round_due(state.chain, state.cause, state.step, previous, self.view), state.step)

    def _end(self, command: End) -> None:
        self.state = _arm(self.state, self.state.step, None, status=Status.ENDED, paused=False, frozen=None)
        self.effects.append(Ended(command.at, command.why))

    # ---- what is due

    def catch_up(self) -> None:
        """Take everything due by now. Ends: a step moves on by one, and a new round is at least a minute away."""
        self._raise()
        while self._is_due():
            if self.state.status is Status.ACKNOWLEDGED:
                self._expire()
            elif self.state.step < len(self.state.chain.steps):
                step = self.state.chain.steps[self.state.step]
                opening = delays.allowed(step, self.now, self.view)
                if opening > self.now:
                    self._wait(opening, self.state.step)
                else:
                    self._take(self.state.step)
            elif self._may_repeat():
                self._next_round()
            else:
                self._exhaust(NOBODY_ANSWERED)

    def _is_due(self) -> bool:
        state = self.state
        return not state.paused and not self.facts.held and state.due_at is not None and state.due_at <= self.now

    def _raise(self) -> None:
        waiting = self.state.status is Status.ACTIVE and not self.state.raised and not self.facts.held
        if waiting and not self.state.paused and self.state.cause.stalled_at <= self.now:
            self._note_raised()

    def _note_raised(self) -> None:
        if not self.state.raised:
            self.state = msgspec.structs.replace(self.state, raised=True)
            self.effects.append(Raised(self.now))

    def _expire(self) -> None:
        """The acknowledgement is over: remind whoever gave it, and resume at the same step."""
        self._take(max(self.state.step - 1, 0), reminded=self.state.acknowledged_by, again=self.state.step > 0)

    def _may_repeat(self) -> bool:
        repeat = self.state.chain.repeat
        return repeat is not None and (repeat.max is None or self.state.round <= repeat.max)

    def _next_round(self) -> None:
        self.state = _arm(self.state, 0, self.now, round=self.state.round + 1, round_reached=False)

    def _take(self, index: int, *, reminded: tuple[str, ...] = (), again: bool = False) -> None:
        """Take step `index` now: tell its people, and wait for what comes after it."""
        self._note_raised()
        step = self.state.chain.steps[index]
        owner = self.state.cause.owner
        avoid = frozenset(person for person in (owner, self.facts.owner) if person is not None)
        found = targets.resolve(step.targets, owner, avoid, self.view, self.now)
        people = tuple(told.person for told in found.targets)
        copies = tuple(told.person for told in found.copies)
        urged = self._urged(step)
        to_remind = tuple(person for person in reminded if person not in people and person not in copies)
        actions = tuple(
            Done(one.do, one.to or (people[0] if one.do == "reassign" and people else None))
            for one in step.does
            if one.do != "urge" and (one.do != "reassign" or one.to is not None or people)
        )
        stepped = Stepped(
            at=self.now,
            step=index,
            round=self.state.round,
            targets=people,
            copies=copies,
            urged=urged,
            actions=actions,
            skipped=tuple(found.skipped.items()),
            reminded=to_remind,
            again=again,
        )
        self.effects.append(stepped)
        reached = bool(people) or urged is not None
        everyone = dict.fromkeys((*self.state.everyone_told, *people, *copies, *((urged,) if urged else ())))
        self.state = msgspec.structs.replace(
            self.state,
            status=Status.ACTIVE,
            last_step_at=self.now,
            round_reached=self.state.round_reached or reached,
            told=found.targets or self.state.told,
            everyone_told=tuple(everyone),
            # Answers to an earlier step do not answer this one; a step that told nobody new leaves them standing.
            acknowledged_by=() if found.targets or again else self.state.acknowledged_by,
        )
        self._after(index, passed=not _had_effect(step, stepped))

    def _urged(self, step: Step) -> str | None:
        """The overdue owner, when the step reminds them: being reminded is not being escalated to."""
        if not any(action.do == "urge" for action in step.does):
            return None
        owner = self.facts.owner or self.state.cause.owner
        return owner if owner is not None and self.view.is_active(owner) else None

    def _after(self, index: int, *, passed: bool) -> None:
        """Wait for the step behind `index`, or for the end of the round; a step that reached nobody gets no time."""
        state, chain, following = self.state, self.state.chain, index + 1
        if following < len(chain.steps):
            if passed and chain.steps[following].relative_to == "previous":
                self._wait(self.now, following)
            elif state.round == 1:
                self._wait(delays.first_round_due(chain, state.cause, following, self.now, self.view), following)
            else:
                self._wait(delays.later_round_due(chain, following, self.now, self.view), following)
        elif not state.round_reached:
            self._exhaust(NOBODY_REACHED)
        elif chain.repeat is not None and self._may_repeat():
            self._wait(self.now + chain.repeat.every, following)
        elif passed:
            self._exhaust(NOBODY_ANSWERED)
        else:
            self._wait(self.now + chain.exhausted_after, following)

    def _exhaust(self, why: str) -> None:
        state = self.state
        avoid = frozenset(person for person in (state.cause.owner, self.facts.owner) if person is not None)
        fallback = targets.fallback(state.chain.fallback, avoid, self.view, self.now)
        self.state = _arm(state, len(state.chain.steps), None, status=Status.EXHAUSTED)
        self.effects.append(Exhausted(self.now, fallback, why))

    def _wait(self, due_at: datetime | None, step: int, **changes: Any) -> None:
        """Wait until `due_at`; while paused, keep the whole delay instead of its instant."""
        self.state = _arm(self.state, step, due_at, **changes)
        if self.state.paused:
            frozen = None
            if due_at is not None:
                frozen = delays.freeze(self.state.chain, due_at, self.now, self.state.counts_open, self.view)
            self.state = msgspec.structs.replace(self.state, due_at=None, frozen=frozen)

    def wake_at(self) -> datetime | None:
        """When to look again without any event; None while only an event can change anything."""
        state = self.state
        if state.paused or state.status is Status.ENDED:
            return None
        instants = [] if state.due_at is None else [state.due_at]
        if state.status is Status.ACTIVE and not state.raised:
            instants.append(state.cause.stalled_at)
        if self.facts.held:
            instants = [at for at in instants if at > self.now]
        return min(instants, default=None)


def _had_effect(step: Step, stepped: Stepped) -> bool:
    """Whether the step reached somebody to act; one that only copies or only does things has had its effect by doing so."""
    meant_to_act = any(not target.copy for target in step.targets) or any(one.do == "urge" for one in step.does)
    if meant_to_act:
        return bool(stepped.targets) or stepped.urged is not None
    return bool(stepped.copies) or bool(stepped.actions)
