"""Where the source of a worker's target lies, found without running it: `dev` watches that place.

`tailplane.workers.load_target` is what loads a target, and what says what is wrong with its code.
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
    place = _place(target)
    if _is_file(place):
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


def check_target(target: str, cwd: Path) -> None:
    """See to it that the target's file or module is there, without running it: for `dev`, before it starts anything.

    Raises:
        TargetNotFound: there is no such file or module, or the file is not a `.py` file.
    """
    place = _place(target)
    path = (cwd / place).resolve()
    if _is_file(place) and not path.is_file():
        what = f"there is no file {path}"
    elif path.is_file() and path.suffix != ".py" and (_is_file(place) or path.suffix or not source_of(target, cwd)):
        what = f"{place} is not a .py file"
    elif not source_of(target, cwd):
        what = f"there is no module {place}"
    else:
        return
    # The workers' part is slow to import: only for its error.
    from tailplane.workers import TargetNotFound

    raise TargetNotFound(what, hint="a target is module:attribute, a module, or a path to a .py file")


def home_of(target: str | None, cwd: Path) -> tuple[Path, str]:
    """Return the directory that a target belongs to, and what the target is called there.

    A file's own directory, so that it is the same project from wherever it is started; else `cwd`.
    """
    place = _place(target or "")
    path = (cwd / place).resolve()
    if target and path.is_file():
        return path.parent, path.name + target[len(place) :]
    return cwd.resolve(), target or ""


def _place(target: str) -> str:
    return target.rpartition(":")[0] or target


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place
