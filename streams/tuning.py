"""How a process that works in batches is set: few pauses for garbage, and no thread that waits long for another."""

import gc
import sys

SWITCH_S = 0.001
"""A thread back from the network waits so long for one that calculates; Python's own 5 ms would come a dozen times a batch."""


def steady() -> None:
    """Call it once, when all is built. A batch makes a hundred thousand short-lived values, and hardly a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(SWITCH_S)
