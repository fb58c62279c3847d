"""The process' limit of open files: a connection is one."""

import contextlib
import resource


def raise_open_files(wanted: int) -> int:
    """Raise the process' limit of open files to `wanted`, as far as it may be, and return what it is.

    Shells give 1,024 for the sake of `select`, which nothing here calls; what one is allowed is the hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft >= possible:
        return soft
    # Refused: macOS takes less than its hard limit says.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
