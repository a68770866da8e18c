"""The judge: real processes on servers of their own, which are killed, cut off, flushed and restarted while tickets come in.

    world        servers, sinks, proxy and the published playbook of a run
    keeper       the services' processes: started, killed, armed with crash points, started again
    scenario     load and faults of one run, by a plan and a seed
    verdict      what must be true afterwards: by HTTP, read-only SQL and the sinks' records alone

`test_smoke` is the small run of CI; `python -m bench faults` the full one.
"""
