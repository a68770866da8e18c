"""Recorded or generated histories through the same handlers, on a virtual clock, in one process and without threads."""
