"""Everything that touches the machine: settings, clock, ids, logging, metrics, database, broker, loops, crash points, servers.

Only here are the clock, the environment, random numbers and sleeping allowed; a linter holds that. All else takes them as
arguments, which is what lets a year of history be replayed in seconds through the same code.
"""
