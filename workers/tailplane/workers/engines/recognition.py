"""Tells the objects of other libraries by the names of their classes, and makes workflows of them.

Nothing is imported to look at an object: its class, and those that it derives from, say where they come from.
"""

from typing import Any, Literal

from tailplane.workers.workflow import Workflow

Engine = Literal["llama-index-workflows", "langgraph"]

# Module and name of the class that an engine's workflows derive from.
_BASES: dict[tuple[str, str], Engine] = {
    ("workflows.workflow", "Workflow"): "llama-index-workflows",
    ("langgraph.pregel.main", "Pregel"): "langgraph",
}


def engine_of(value: object) -> Engine | None:
    """Return whose workflow an object is; None: nobody's, or a class and not one of its instances."""
    bases = ((base.__module__, base.__qualname__) for base in type(value).__mro__)
    return next((_BASES[base] for base in bases if base in _BASES), None)


def serve(value: Any, engine: Engine, name: str | None) -> Workflow:
    """Return the workflow that runs an engine's object.

    Args:
        name: by which its module knows it; None: by none.
    Raises:
        EngineUnfit: the text says what is needed.
    """
    match engine:
        case "llama-index-workflows":
            from tailplane.workers.engines import llama_workflows

            return llama_workflows.serve(value, name)
        case "langgraph":
            from tailplane.workers.engines import langgraph_graphs

            return langgraph_graphs.serve(value, name)
