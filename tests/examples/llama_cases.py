"""The examples' workflows, with inputs and the answers that a human gives."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples" / "llama_workflows"


class Answer(NamedTuple):
    """What is sent for an event, as a message."""

    type: str | None
    data: Any


class Case(NamedTuple):
    name: str
    start: dict[str, Any]
    answer: Callable[[str, Any], Answer | None] = lambda type_, data: None


def _introduce(type_: str, data: Any) -> Answer | None:
    return Answer("HumanResponseEvent", {"response": "Ada"}) if type_ == "InputRequiredEvent" else None


def _approve(type_: str, data: Any) -> Answer | None:
    return Answer("Decision", {"who": data["who"], "granted": True}) if type_ == "ApprovalRequired" else None


CASES = [
    Case("agent", {"question": "What is (2 + 3) * 7?"}),
    Case("approval", {"amount": 100}, _approve),
    Case("basket", {"prices": {"tea": 3.5, "milk": 1.2, "cake": 4.0}}),
    Case("fan_out", {"text": "one three five seven nine eleven"}),
    Case("introduction", {}, _introduce),
    Case("joke", {"topic": "pirates"}),
    Case("map_reduce", {"bound": 5}),
    Case("refine", {"topic": "tea", "wanted": 4}),
    Case("research", {"topics": ["tea", "milk"]}),
    Case("unreliable", {"question": "why", "fails": 5}),
]


def example(name: str) -> Any:
    """Return an example's workflow."""
    module, path = sys.modules.get(name), EXAMPLES / f"{name}.py"
    if module is None or module.__file__ != str(path):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        # By its own name, as its events are kept by that of their module; other tests have modules of the same name.
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return getattr(module, name)
