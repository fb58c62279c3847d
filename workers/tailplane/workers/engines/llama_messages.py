"""Messages of a task's inbox as the events of its workflow: by class name, never by import."""

import sys
from collections.abc import Collection, Mapping

from pydantic import ValidationError
from workflows import Workflow
from workflows.events import Event, HumanResponseEvent

from tailplane.broker.memory import Message
from tailplane.protocol.errors import InvalidInput


def classes_of(workflow: Workflow) -> dict[str, type[Event]]:
    """Return the classes of events that a workflow knows, by name: those that its steps take and give, and those in the
    modules that it and its steps come from.
    """
    modules = {kind.__module__ for kind in type(workflow).__mro__} | {
        step.__module__ for step in workflow._get_steps().values()
    }
    found: dict[str, type[Event]] = {HumanResponseEvent.__name__: HumanResponseEvent}
    for name in sorted(modules - {"builtins", "workflows.workflow"}):
        members = vars(sys.modules[name]).values() if name in sys.modules else ()
        found |= {each.__name__: each for each in members if isinstance(each, type) and issubclass(each, Event)}
    return found | {each.__name__: each for each in workflow.events}


def answers_of(workflow: Workflow) -> set[str]:
    """Return the names of the events that its steps take and that only come from outside."""
    return {each.__name__ for each in workflow.events if issubclass(each, HumanResponseEvent)}


def event_of(message: Message, classes: Mapping[str, type[Event]], usual: Collection[str]) -> Event:
    """Return the event that a message is. Data that is no object is the event's `response`.

    Args:
        classes: what there is, by name.
        usual: what the workflow takes at present: a message without a type is the only one of them, or else a
            HumanResponseEvent.
    Raises:
        InvalidInput: no such class, or the data does not fit it.
    """
    name = message.type or (next(iter(usual)) if len(usual) == 1 else HumanResponseEvent.__name__)
    kind = classes.get(name)
    if kind is None:
        raise InvalidInput(f"the workflow knows no event {name[:200]!r}")
    data = message.data if isinstance(message.data, dict) else {"response": message.data}
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(f"the message does not fit {name}: {error.errors(include_url=False)[0]['msg']}") from None
