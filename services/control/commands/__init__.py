"""One file a subcommand: `add_parser(subparsers)` and `run(args) -> int` (the exit code)."""
