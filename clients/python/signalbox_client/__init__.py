"""A small typed client for Signalbox: push tickets, act on them, follow topic events, verify webhooks. Standard library only."""

from signalbox_client.client import Client, Conflict, Failed, Refused, Unavailable
from signalbox_client.cursors import Cursor, FileCursor, MemoryCursor
from signalbox_client.webhooks import Forged, verify

__all__ = [
    "Client",
    "Conflict",
    "Cursor",
    "Failed",
    "FileCursor",
    "Forged",
    "MemoryCursor",
    "Refused",
    "Unavailable",
    "verify",
]
