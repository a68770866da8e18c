"""The operator's hand: the `signalbox` command, which composes the services.

    cli          arguments, and nothing else
    platform     servers (given by URL, or embedded), engine, bells, caches: what every command starts from
    supervise    `up`: the door in one process, the workers in another, restarted when one dies, drained on Ctrl-C
    publish      `check` and `apply`: read a playbook, prove it, publish it as a version, bring the directory up to it
    push         files of tickets into a running system
    evaluate/    `eval`: pure evaluation, NDJSON in, NDJSON out
    replay/      recorded histories through the same handlers on a virtual clock
    demo/        a day of generated tickets, and three stories
    doctor       what is wrong

It is the only package that may import several services.
"""
