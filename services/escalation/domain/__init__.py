"""The pure part of the escalation service: who is on call (`oncall`), and what happens when nobody moves (`chain`).

Nothing here reads a clock, a database or the directory: instants are arguments, people come through the small protocols of
`chain.view`. The same functions answer the product, `signalbox eval`, `check`, `doctor` and a replay of last year.
"""
