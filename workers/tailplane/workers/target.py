"""Finds workflows where a target points: `module:attribute`, a module, or a Python file (`file.py` or
`file.py:attribute`). Workflows of other libraries are found there, too: see `engines`.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from tailplane.protocol.errors import TailplaneError
from tailplane.workers.engines import engine_of, serve
from tailplane.workers.workflow import Workflow

_HINT = "a target is module:attribute, a module, or a path to a .py file"


class TargetNotFound(TailplaneError):
    """The target names no module, no file or no workflow; the text says what is missing."""

    code = "target_not_found"
    title = "No workflows there"


def load_target(target: str) -> list[Workflow]:
    """Import what `target` names and return its workflows.

    `module:attribute` is one workflow, or a list or tuple of them. A module or file gives every `@workflow` in it, and
    every workflow object of another library; if it has none, its functions whose first argument is called `ctx`.

    Raises:
        TargetNotFound: there is no such module, file or attribute, or no workflow in it.
        EngineUnfit: another library's workflow can't be served.
        Exception: whatever the module raises while it is imported.
    """
    place, attribute = _split(target)
    if not _is_file(place) and "." in place and Path(place).is_file():
        # Read as the name of a module, `prog.txt` would run prog.py.
        raise TargetNotFound(f"{place} is not a .py file", hint=_HINT)
    module = _load_file(Path(place)) if _is_file(place) else _load_module(place)
    if attribute is None:
        return _workflows_of(module, target)
    found: object = module
    for name in attribute.split("."):
        found = getattr(found, name, None)
        if found is None:
            raise TargetNotFound(f"{place} has no {attribute}", hint=f"it has: {', '.join(_public(module))}")
    if not isinstance(found, list | tuple):
        return [_as_workflow(found, target, attribute.rpartition(".")[2])]
    if not found:
        raise TargetNotFound(f"{target} is empty")
    names = {id(value): name for name, value in vars(module).items()}
    return [_as_workflow(item, target, names.get(id(item))) for item in found]


def _split(target: str) -> tuple[str, str | None]:
    place, colon, attribute = target.rpartition(":")
    # A drive letter such as C:\\ is no module.
    if not colon or len(place) == 1:
        return target, None
    return place, attribute


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise TargetNotFound(f"there is no file {path}")
    # Its neighbours can be imported, as when it is run by hand.
    _put_on_path(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TargetNotFound(f"{path} is not a .py file", hint=_HINT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # As importlib does: half a module must not pass for one.
        sys.modules.pop(path.stem, None)
        raise
    return module


def _load_module(name: str) -> ModuleType:
    if not name or name.startswith("."):
        raise TargetNotFound(f"{name!r} is no module", hint=_HINT)
    _put_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the target itself fails to import is the author's error, and told as it is.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            what = f"{name} is not a .py file" if Path(name).is_file() else f"there is no module {name}"
            raise TargetNotFound(what, hint=_HINT) from None
        raise


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _workflows_of(module: ModuleType, target: str) -> list[Workflow]:
    # Each once, by however many names the module knows it: the first one counts.
    members: dict[int, tuple[str, object]] = {}
    for name, value in vars(module).items():
        if not name.startswith("_"):
            members.setdefault(id(value), (name, value))
    found = [
        _as_workflow(value, target, name)
        for name, value in members.values()
        if isinstance(value, Workflow) or engine_of(value)
    ]
    if not found:
        found = [Workflow(value) for _, value in members.values() if _looks_like_one(value, module)]
    if not found:
        raise TargetNotFound(
            f"{target} has no workflows", hint="decorate them with @workflow, or call their first argument ctx"
        )
    return found


def _looks_like_one(value: object, module: ModuleType) -> TypeGuard[Callable[..., Any]]:
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    return next(iter(inspect.signature(value).parameters), None) == "ctx"


def _as_workflow(value: object, target: str, name: str | None) -> Workflow:
    if isinstance(value, Workflow):
        return value
    if engine := engine_of(value):
        return serve(value, engine, name)
    if inspect.isfunction(value):
        return Workflow(value)
    hint = "name an instance of it" if isinstance(value, type) else None
    raise TargetNotFound(f"{target} is a {type(value).__name__}, not a workflow or a function", hint=hint)


def _public(module: ModuleType) -> list[str]:
    return sorted(name for name in vars(module) if not name.startswith("_"))[:20]
