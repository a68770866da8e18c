"""The garbage collector of a long-running worker: what stands since the start is never looked at again.

CPython's defaults walk young objects after 700 allocations and the whole heap ever so often. A batch of some hundred tickets
allocates a hundred thousand objects that reference counting frees by itself, and the heap that is walked meanwhile is modules and
compiled playbooks. Measured on the reference's work: a fifth of a worker's CPU.
"""

from __future__ import annotations

import gc

YOUNG = 50_000
"""Allocations before a look at the youngest objects: more than a batch leaves behind in cycles."""


def settle() -> None:
    """Call once when a worker has started: everything alive now counts as permanent."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)


def keep() -> None:
    """Call when something large was made that stays for good (a compiled playbook): a settled worker never looks at it again.

    One of the next looks at older objects would else walk all of it in the middle of a batch: with thousands of rules 100 ms.
    """
    if gc.get_freeze_count():
        gc.freeze()
