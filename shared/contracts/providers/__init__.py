"""Delivery receipts and card actions that providers send to us: pure verification and reading, no I/O.

One file a provider. Each reads an `Inbound` request with the secrets of its channel and answers what the request
says, or raises `Forged` (the gateway answers 401 and tells nothing) or `Malformed` (400). Verification comes before
reading, in constant time, and a provider whose secret is not configured is never believed.

A receipt is matched by `provider_id`, with `address` where one id covers a batch. It can come before the reply to the
send call, twice, out of order or never; states only move forward (`receipts.ReceiptState.follows`).
"""
