"""The HTTP interface, version 1: one file a family of calls. No logic here: decode, call, present."""
