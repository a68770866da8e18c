"""People and groups: who there is, how to reach them, who leads whom, who is here.

A person and a group are ledger items (kinds `agent` and `group`, found by key). Their state is written by `apply` (the record of
the playbook), by people (presence, leave, skills: these outlive `apply` until the playbook's own value changes) and by directory
sync, always as `agent.changed` events through the ledger. Everybody reads the same immutable `Directory` snapshot.
"""
