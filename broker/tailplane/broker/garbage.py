"""Python's garbage collector, set for a server's process: called once by the programs, when all is loaded."""

import gc


def collect_seldom() -> None:
    """Leave out of all collections what has been loaded, and collect a tenth as often.

    What a request or an attempt leaves behind is freed without the collector; looking at everything else again and
    again for the few cycles there are took a tenth of the processes' time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
