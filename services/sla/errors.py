"""What can go wrong in the SLA service.

    SlaError
      UnknownVersion       a ticket is pinned to a playbook version that the library does not hold
      UnknownPolicy        a clock names a policy that its version does not have
      NotCreated           facts arrived for a ticket whose first fact is not its creation

All three mean that stored data and code disagree: they are bugs or lost configuration, never an operator's mistake, so they go to
quarantine. Mistakes in a playbook's `sla` section are `ValueError`s with a path, raised when it is read.
"""

from __future__ import annotations


class SlaError(Exception):
    """The SLA service cannot go on with this ticket."""


class UnknownVersion(SlaError):
    """The playbook version is not in the library."""

    def __init__(self, version: int) -> None:
        super().__init__(f"playbook version {version} is not in the library")
        self.version = version


class UnknownPolicy(SlaError):
    """The playbook version has no such SLA policy."""

    def __init__(self, version: int, policy: str) -> None:
        super().__init__(f"playbook version {version} has no SLA policy {policy!r}")
        self.version = version
        self.policy = policy


class NotCreated(SlaError):
    """The first fact of a ticket is its creation."""
