"""Drivers: one file a provider, its table of codes on top, one way of speaking about what became of a message.

What a driver owns is the translation between a `Message` and one provider call, and between the provider's answer and
an `Outcome` (`base.py`). What it does not own: retries, caps, quotas, failover, circuits, storage; all of that is the
sender's and the same for every provider.

Invariants, held by one suite over every driver and its fake (tests/conformance):

- `send` answers one outcome for each message, in the order given, and raises for nothing that a network or provider does.
- A request that was never complete on the wire is `transient`; one that was written and got no readable answer is
  `unknown`, and its outcome says whether sending it again is safe (`resend_safe`).
- HTTP 200 is not success: only the provider's own code is.
- No secret, and no body of an answer, reaches an outcome.
- A driver reads no clock, environment or randomness of its own: `Net` gives wall time and nonces.

All drivers of a process live in one asyncio loop and share one HTTP pool (`http.py`); SMTP has its own
(`smtp_pool.py`), HTTP/2 and SMPP theirs. `registry.py` knows them by name.
"""
