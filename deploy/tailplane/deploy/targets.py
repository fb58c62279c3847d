"""Where the source of a worker's target lies, found without running it: `dev` watches that place.

`tailplane.workers.load_target` is what loads a target, and what says what is wrong with one.
"""

import importlib.util
import sys
from pathlib import Path


def source_of(target: str, cwd: Path) -> list[Path]:
    """Return the directories that hold the target's code; none if there is no such file or module.

    Args:
        target: `module:attribute`, a module, or a `.py` file with or without `:attribute`.
        cwd: where files and modules are looked for first.
    """
    place = target.rpartition(":")[0] or target
    if place.endswith(".py") or "/" in place:
        path = (cwd / place).resolve()
        return [path.parent] if path.is_file() else []
    before = list(sys.path)
    sys.path.insert(0, str(cwd))
    try:
        spec = importlib.util.find_spec(place.partition(".")[0])
    except (ImportError, ValueError):
        return []
    finally:
        sys.path[:] = before
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder).resolve() for folder in spec.submodule_search_locations]
    return [Path(spec.origin).resolve().parent] if spec.origin else []
