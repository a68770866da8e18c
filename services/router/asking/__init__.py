"""Asking outside systems before rules decide (`enrichments` of the playbook), never inside a transaction.

A ticket whose rules want an answer that nobody has yet is put off: a row in `router.deferred` and its agenda row's
instant say until when, at most the longest `timeout` of the playbook's enrichments. After that commit the question goes
to the `Fetcher` of this process, which asks over HTTP, writes the answer for all processes (`router.answer`) and rouses
the tickets that wait for it. If the process dies, or nobody answers, the instant comes and the rules go on with the
default. Answers are kept for `cache`; failures for a moment, so that a dead system costs one ticket its budget and not
each. A breaker for each enrichment saves even that.

    fetcher   the loop that asks: one request an address however many tickets want it, at most 16 at a time for each system
    breaker   after 5 failures in a row nobody is asked for 30 seconds; then one question tries

"""
