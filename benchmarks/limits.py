"""What the harness itself asks of the machine."""

import resource

CONCURRENCY = 12_000
"""Tasks that a worker may run at once, alike in all systems: more than any workload has."""


def raise_open_files() -> int:
    """Let this process and its children open as many files as they may; return how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
