"""What several benchmarks share: the desk they run, the worker process they start, the meter of CPU they read."""
