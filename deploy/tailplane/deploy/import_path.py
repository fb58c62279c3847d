"""What a child process must be told so that it can import what this one can."""

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path


def import_path(entries: Iterable[str] | None = None) -> str:
    """Return the PYTHONPATH for a child: this process' import path (or `entries`) without what every process has.

    The standard library and site-packages stay out: on PYTHONPATH they would change places, and an old backport in
    site-packages would go before the standard library's module.
    """
    own = {Path(place) for name, place in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib")}
    own |= {Path(place) for name, place in sysconfig.get_paths().items() if name in ("purelib", "platlib")}
    kept = []
    for entry in sys.path if entries is None else entries:
        path = Path(entry or Path.cwd()).absolute()
        if path.exists() and path.suffix != ".zip" and not any(path.is_relative_to(place) for place in own):
            kept.append(str(path))
    return os.pathsep.join(dict.fromkeys(kept))
