"""Every clock change of every zone in 2000–2037: what a wall time beside it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from shared.calendar.walltime import instant_of
from tests.support.slow_calendar import changes, offset_at, to_datetime, wall

YEARS = range(2000, 2038)


def zones() -> list[str]:
    return sorted(
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix/", "right/"))
    )


def check_change(zone: str, change: int) -> None:
    """Wall times just before, inside and just after the skipped or repeated stretch mean what the slow walk finds."""
    before, after = offset_at(zone, change - 1), offset_at(zone, change)
    shown = sorted([change + before, change + after])
    middle = (shown[0] + shown[1]) // 2
    for second in (shown[0] - 1, shown[0], middle, shown[1] - 1, shown[1], shown[1] + 1):
        local = datetime(1970, 1, 1) + timedelta(seconds=second)
        expected = to_datetime(wall(zone, local.date(), second % 86_400))
        assert instant_of(local, ZoneInfo(zone)) == expected, (zone, local)
    jump = datetime.fromtimestamp(change, UTC)
    if after > before:
        skipped = datetime(1970, 1, 1) + timedelta(seconds=middle)
        assert instant_of(skipped, ZoneInfo(zone)) == jump


@pytest.mark.parametrize("offset", range(12))
def test_a_skipped_wall_time_is_the_jump_and_a_repeated_one_its_first_occurrence(offset: int) -> None:
    seen = 0
    for zone in zones()[offset::48]:
        for year in YEARS:
            for change in changes(zone, year):
                check_change(zone, change)
                seen += 1
    assert seen > 0


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_every_change_of_every_zone_is_read_so() -> None:
    for zone in zones():
        for year in YEARS:
            for change in changes(zone, year):
                check_change(zone, change)
