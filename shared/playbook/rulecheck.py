"""What is wrong with a rule set, found before it is published.

- A rule that can never hold: two of its comparisons exclude each other.
- A rule of a `first` set that is never reached: one earlier rule asks for no more than it does, or several earlier ones
  together cover every case of the enumerated fields.
- Rules of an `all` set that set each other off for ever.
- A pattern that would take too long on some texts.

Sound, not complete: what is reported is so; proofs that would take too long are given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from shared.playbook.facts import Kind, Schema
from shared.playbook.onepass import is_dear
from shared.playbook.predicates import Condition, Matches, Not, OneOf, Range, Scalar
from shared.playbook.ruleset import Mode, Rule, RuleSet

_COVERERS = 64  # earlier rules looked at for one rule
_BOXES = 2_000  # pieces a proof may cut a rule's cases into
_EDGES = 200_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding; `path` is relative to the set (`rules[3].when`)."""

    rule: str
    path: str
    reason: str


Absent = None
Case = Scalar | None
Box = dict[str, frozenset[Case]]
"""The cases of a rule: for each enumerated field it asks, the values it accepts, `None` standing for an absent fact."""


def check(rules: RuleSet, schema: Schema, positions: Mapping[str, int] | None = None) -> list[Problem]:
    """Return what is wrong with `rules`. `positions` are the places of the rules in the file (default: their order)."""
    places = positions or {rule.name: place for place, rule in enumerate(rules.rules)}

    def problem(rule: Rule, reason: str) -> Problem:
        return Problem(rule.name, f"rules[{places[rule.name]}].when", reason)

    shapes = [_Shape.of(rule.when, schema) for rule in rules.rules if rule.when is not None]
    found = [
        problem(rule, shape.contradiction)
        for rule, shape in zip(rules.rules, shapes, strict=True)
        if shape.contradiction is not None
    ]
    found.extend(
        problem(rule, f"{part} takes too long on some texts: it repeats what may begin at many places at once")
        for rule in rules.rules
        for part in (rule.when.walk() if rule.when is not None else ())
        if isinstance(part, Matches) and is_dear(part.pattern)
    )
    if rules.mode is Mode.FIRST:
        for later, earlier in _covered(shapes):
            names = ", ".join(repr(rules.rules[place].name) for place in earlier)
            found.append(problem(rules.rules[later], f"is never reached: covered by {names}"))
    else:
        found.extend(problem(rules.rules[place], reason) for place, reason in _loops(rules))
    return found


@dataclass(frozen=True, slots=True)
class _Shape:
    """A condition taken apart: `box` holds its enumerated comparisons, `rest` all others as written."""

    box: Box
    rest: frozenset[Condition]
    domains: Mapping[str, frozenset[Case]]
    contradiction: str | None

    @staticmethod
    def of(condition: Condition, schema: Schema) -> _Shape:
        box: Box = {}
        rest: set[Condition] = set()
        domains: dict[str, frozenset[Case]] = {}
        contradiction = None
        for part in condition.conjuncts():
            field, accepted = _enumerated(part, schema, domains)
            if field is None:
                rest.add(part)
                contradiction = contradiction or _scalar_clash(part, rest)
                continue
            left = box.get(field, domains[field]) & accepted
            if not left:
                contradiction = contradiction or f"can never hold: nothing is left for {field}"
            box[field] = left
        # A field whose every case is accepted is not asked at all.
        box = {field: cases for field, cases in box.items() if cases != domains[field]}
        return _Shape(box, frozenset(rest), domains, contradiction)


def _enumerated(
    part: Condition, schema: Schema, domains: dict[str, frozenset[Case]]
) -> tuple[str | None, frozenset[Case]]:
    """Return the enumerated field that `part` is about and the cases it accepts, or `(None, …)` for anything else."""
    inner, negated = (part.member, True) if isinstance(part, Not) else (part, False)
    if not isinstance(inner, OneOf) or inner.many:
        return None, frozenset()
    known = schema.fields.get(inner.field)
    if known is None or known.kind not in (Kind.CHOICE, Kind.BOOL):
        return None, frozenset()
    values: frozenset[Case] = frozenset(known.values) if known.kind is Kind.CHOICE else frozenset({True, False})
    domain = values if known.always else values | {Absent}
    domains[inner.field] = domain
    return inner.field, (domain - inner.values if negated else domain & inner.values)


def _scalar_clash(part: Condition, others: set[Condition]) -> str | None:
    """Return a sentence when `part` excludes one of the comparisons already seen on the same field."""
    for other in others:
        if isinstance(part, OneOf) and isinstance(other, OneOf) and part.field == other.field:
            apart = not part.many and not part.values & other.values
        elif isinstance(part, Range) and isinstance(other, Range) and part.field == other.field:
            apart = _apart(part, other)
        else:
            continue
        if apart:
            return f"can never hold: {part} and {other} exclude each other"
    return None


def _apart(one: Range, two: Range) -> bool:
    for low, high in ((one, two), (two, one)):
        if low.low is None or high.high is None or isinstance(low.low, str) or isinstance(high.high, str):
            continue
        if low.low > high.high or (low.low == high.high and (low.low_open or high.high_open)):
            return True
    return False


def _covered(shapes: Sequence[_Shape]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (rule, the earlier rules that take all its cases)."""
    index = _Earlier()
    for place, shape in enumerate(shapes):
        if shape.contradiction is None:
            by = index.covering(shape, shapes)
            if by:
                yield place, by
            index.add(place, shape)


class _Earlier:
    """The rules before the one in question, as bitmaps by field and accepted case."""

    def __init__(self) -> None:
        self._all = 0
        self._pure = 0  # rules that ask enumerated fields only
        self._asks: dict[str, int] = {}
        self._accepts: dict[tuple[str, Case], int] = {}

    def add(self, place: int, shape: _Shape) -> None:
        bit = 1 << place
        self._all |= bit
        if not shape.rest:
            self._pure |= bit
        for field, cases in shape.box.items():
            self._asks[field] = self._asks.get(field, 0) | bit
            for case in cases:
                self._accepts[field, case] = self._accepts.get((field, case), 0) | bit

    def covering(self, shape: _Shape, shapes: Sequence[_Shape]) -> tuple[int, ...]:
        """Return one earlier rule that covers `shape`, or several that do together, or nothing."""
        for place in islice(_bits(self._wider(shape)), _COVERERS):
            if shapes[place].rest <= shape.rest:
                return (place,)
        touching = list(islice(_bits(self._touching(shape) & self._pure), _COVERERS))
        if len(touching) < 2:
            return ()
        budget = [_BOXES]
        if _all_taken(dict(shape.box), [shapes[place] for place in touching], budget):
            return tuple(touching)
        return ()

    def _wider(self, shape: _Shape) -> int:
        """Return the earlier rules that, field by field, accept every case that `shape` accepts."""
        bits = self._all
        for field, asking in self._asks.items():
            accepting = ~asking
            cases = shape.box.get(field)
            if cases is not None:
                every = -1
                for case in cases:
                    every &= self._accepts.get((field, case), 0)
                accepting |= every
            bits &= accepting
        return bits

    def _touching(self, shape: _Shape) -> int:
        """Return the earlier rules that share a case with `shape`."""
        bits = self._all
        for field, cases in shape.box.items():
            some = ~self._asks.get(field, 0)
            for case in cases:
                some |= self._accepts.get((field, case), 0)
            bits &= some
        return bits


def _all_taken(box: Box, takers: Sequence[_Shape], budget: list[int]) -> bool:
    """Is every case of `box` in one of `takers`? Cuts the box along the first taker and asks for what is left."""
    budget[0] -= 1
    if budget[0] < 0:
        return False
    for place, taker in enumerate(takers):
        shared = {field: box.get(field, taker.domains[field]) & cases for field, cases in taker.box.items()}
        if not all(shared.values()):
            continue
        rest = takers[place + 1 :]
        inside = dict(box)
        for field, cases in shared.items():
            outside = inside.get(field, taker.domains[field]) - cases
            if outside and not _all_taken({**inside, field: outside}, rest, budget):
                return False
            inside[field] = cases
        return True
    return False


def _bits(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _loops(rules: RuleSet) -> Iterator[tuple[int, str]]:
    """Yield (first rule, sentence) for rules that wake each other in a circle and write against each other."""
    wakes = _wakes(rules)
    for circle in _circles(wakes):
        members = [rules.rules[place] for place in circle]
        if _disagree(members):
            names = " → ".join(rule.name for rule in (*members, members[0]))
            yield circle[0], f"rules set each other off for ever: {names}"


def _wakes(rules: RuleSet) -> dict[int, list[int]]:
    """Return for each rule those whose equality a value it writes fulfils."""
    asked: dict[tuple[str, Scalar], list[int]] = {}
    for place, rule in enumerate(rules.rules):
        for part in rule.when.conjuncts() if rule.when is not None else ():
            if isinstance(part, OneOf):
                for value in part.values:
                    asked.setdefault((part.field, value), []).append(place)
    wakes: dict[int, list[int]] = {}
    edges = 0
    for place, rule in enumerate(rules.rules):
        targets = [target for written in rule.writes.items() for target in asked.get(written, ()) if target != place]
        edges += len(targets)
        if edges > _EDGES:
            break
        wakes[place] = targets
    return wakes


def _circles(wakes: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """Yield the strongly connected groups of two or more rules (Tarjan, without recursion)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in wakes:
        if root in order:
            continue
        work = [(root, iter(wakes[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in order:
                    order[target] = low[target] = len(order)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(wakes.get(target, ()))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], order[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    group = _popped(stack, on_stack, node)
                    if len(group) > 1:
                        yield sorted(group)


def _popped(stack: list[int], on_stack: set[int], root: int) -> list[int]:
    group = []
    while True:
        node = stack.pop()
        on_stack.discard(node)
        group.append(node)
        if node == root:
            return group


def _disagree(members: Sequence[Rule]) -> bool:
    """Do two of them write different values to a fact that one of them asks for?"""
    reads = frozenset().union(*(rule.when.fields() for rule in members if rule.when is not None))
    written: dict[str, set[object]] = {}
    for rule in members:
        for fact, value in rule.writes.items():
            if fact in reads:
                written.setdefault(fact, set()).add(value)
    return any(len(values) > 1 for values in written.values())
