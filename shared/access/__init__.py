"""Who may do and see what: principals, roles, field masks. Data in one place, applied by one function.

Every response, message, topic and export passes through `present.present(value, principal)`: a field one may not read is absent.
API keys are random, shown once, and stored as hashes only.
"""
