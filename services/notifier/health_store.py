"""The state of providers, shared by all workers: read with each batch, written when it changes or a window is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.notifier.health import Seen, State, observe
from services.notifier.store import as_json

WRITE_EVERY = timedelta(seconds=5)
"""What only says that all is well is written so often at most."""
_COLUMNS = (
    """provider, share, open_since, pause_seconds, probed_at, in_a_row, fine, trouble, receipts, late, window_at"""
)
_SAVE = f"""
insert into notifier.provider_state ({_COLUMNS})
select {_COLUMNS} from json_to_recordset(%(rows)s) as x (provider text, share double precision, open_since timestamptz,
    pause_seconds double precision, probed_at timestamptz, in_a_row integer, fine integer, trouble integer, receipts integer,
    late integer, window_at timestamptz)
on conflict (provider) do update set share = excluded.share, open_since = excluded.open_since,
    pause_seconds = excluded.pause_seconds, probed_at = excluded.probed_at, in_a_row = excluded.in_a_row, fine = excluded.fine,
    trouble = excluded.trouble, receipts = excluded.receipts, late = excluded.late, window_at = excluded.window_at
"""
_PROBE = """
update notifier.provider_state set probed_at = %(now)s where provider = (
    select provider from notifier.provider_state where provider = %(provider)s and open_since is not null
    and coalesce(probed_at, open_since) + make_interval(secs => pause_seconds) <= %(now)s for update skip locked
) returning provider
"""


def read(connection: Connection) -> dict[str, State]:
    """All providers that ever had an outcome."""
    rows = connection.exec_driver_sql(f"select {_COLUMNS} from notifier.provider_state")
    return {row.provider: State(*row) for row in rows}


def take_probe(connection: Connection, provider: str, now: datetime) -> bool:
    """Whether this transaction may send the one probe of this pause; two workers never both may."""
    return connection.exec_driver_sql(_PROBE, {"provider": provider, "now": now}).first() is not None


def note(connection: Connection, seen: Mapping[str, Seen], now: datetime) -> list[tuple[State, str]]:
    """Add what was seen to the shared states, locked in one order; returns the changes with their reasons."""
    rows = connection.exec_driver_sql(
        f"select {_COLUMNS} from notifier.provider_state where provider = any(%s) order by provider for update",
        (sorted(seen),),
    )
    known = {row.provider: State(*row) for row in rows}
    after = {name: observe(known.get(name, State(name)), one, now) for name, one in seen.items()}
    _save(connection, [state for state, _ in after.values()])
    changes = [(state, why) for state, why in after.values() if why is not None]
    _history(connection, changes, now)
    return changes


def _save(connection: Connection, states: Iterable[State]) -> None:
    rows = sorted((asdict(state) for state in states), key=lambda row: str(row["provider"]))
    connection.exec_driver_sql(_SAVE, {"rows": as_json(rows)})


def _history(connection: Connection, changes: Sequence[tuple[State, str]], now: datetime) -> None:
    for state, why in changes:
        connection.exec_driver_sql(
            "insert into notifier.provider_history (provider, at, share, open, reason) values (%s, %s, %s, %s, %s)",
            (state.provider, now, state.share, state.is_open, why[:500]),
        )
