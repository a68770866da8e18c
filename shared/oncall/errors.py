"""The one error of on-call schedules. Nobody on call is a value, never an exception."""

from __future__ import annotations


class ScheduleError(ValueError):
    """The schedule decodes, but cannot be compiled."""

    def __init__(self, schedule: str, reason: str) -> None:
        self.schedule, self.reason = schedule, reason
        super().__init__(f"schedule {schedule or '(unnamed)'}: {reason}")
