"""The playbook: what an operations team writes, validated, versioned and compiled. Pure, but for `store`."""
