"""Python's garbage collector, set for a server's process, where a pause holds up everybody.

What a request, a reader or an attempt leaves behind is freed without the collector, which is there for the few cycles.
But what it looks at grows with what lives and moves: with 10,000 readers it took 40 ms at once, every few seconds.
"""

import gc
import time

# Seconds between two collections that look at all that lives: cycles may hold memory for so long.
_ALL_EVERY = 300.0


def collect_seldom() -> None:
    """Leave out what has been loaded, and collect a tenth as often. Called once by the programs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class Leaver:
    """Leaves what lives out of collections; call `tick` about once a second."""

    def __init__(self) -> None:
        self._all_at = time.monotonic() + _ALL_EVERY

    def tick(self) -> None:
        """Leave out what there is, which takes no time; or, once in a while, look at all of it."""
        if time.monotonic() > self._all_at:
            self._all_at = time.monotonic() + _ALL_EVERY
            gc.unfreeze()
            gc.collect()
        gc.freeze()
