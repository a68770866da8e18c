"""Errors of the router.

    RouterError
        UnknownGroup      a ticket names a group that the playbook does not have
        PlaybookUnsound   a routing section that `check` would have refused reached the router

Expected outcomes (nobody free, an offer too late) are values, not errors; see `domain`.
"""

from __future__ import annotations


class RouterError(Exception):
    """The router cannot go on with this item."""


class UnknownGroup(RouterError):
    """The group is not in the playbook version the ticket runs under."""

    def __init__(self, group: str) -> None:
        super().__init__(f"{self.__doc__} ({group!r})")
        self.group = group


class PlaybookUnsound(RouterError):
    """The routing section cannot be compiled; `path` says where."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
