"""What is watched on a ticket, as it is stored.

A chain that runs carries its own copy of the policy. Of that copy only what says something is written: half of its JSON would be
members that are not set, rewritten with every step.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import FieldInfo, fields, replace

from services.escalation.watched import Watched
from shared.playbook.escalation import Chain
from shared.playbook.types import dec_hook, enc_hook

_decoder = msgspec.json.Decoder(Watched, dec_hook=dec_hook)
_encoder = msgspec.json.Encoder(enc_hook=enc_hook)
_written: dict[int, tuple[Chain, msgspec.Raw]] = {}
"""By identity: a version's chains are the same objects for all its tickets."""
_MOST = 500


def loads(stored: str | bytes) -> Watched:
    """Read a stored state; raises `msgspec.ValidationError`."""
    return _decoder.decode(stored)


def dumps(state: Watched) -> bytes:
    """The state as JSON; `loads` reads it back to an equal one."""
    if state.chains:
        chains = tuple(replace(one, chain=_bare(one.chain)) for one in state.chains)
        state = replace(state, chains=chains)
    return _encoder.encode(state)


def _bare(chain: Chain) -> msgspec.Raw:
    known = _written.get(id(chain))
    if known is not None and known[0] is chain:
        return known[1]
    if len(_written) >= _MOST:
        _written.clear()
    raw = msgspec.Raw(_encoder.encode(_said(chain)))
    _written[id(chain)] = chain, raw
    return raw


def _said(value: Any) -> Any:
    """Without members that are what they would be if nobody had said anything."""
    if isinstance(value, msgspec.Struct):
        members = ((one, getattr(value, one.name)) for one in fields(value))
        return {one.encode_name: _said(found) for one, found in members if one.required or found != _unsaid(one)}
    return [_said(one) for one in value] if isinstance(value, tuple | list) else value


def _unsaid(field: FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
