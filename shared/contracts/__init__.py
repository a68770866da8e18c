"""Wire formats: events, views, the intake message, CloudEvents topics, problem details, provider signatures.

Nothing here reads a database or a clock. A shape may grow (additions only); a name never changes its meaning.
"""
