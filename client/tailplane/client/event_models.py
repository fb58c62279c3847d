"""The pydantic models that a reader knows by the types of events. No I/O."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from tailplane.protocol.errors import EventMismatch
from tailplane.protocol.events import Event, Kind


class EventModels:
    """Turns the data of typed events back into the models they were written as."""

    def __init__(self, models: Sequence[type[BaseModel]] = ()) -> None:
        """Know each model by its class's name, as the writer names it.

        Raises:
            ValueError: two of them have the same name.
        """
        self._by_type = {model.__name__: model for model in models}
        if len(self._by_type) < len(set(models)):
            raise ValueError("two event models have the same name, and events tell models by name only")

    def restore(self, event: Event) -> None:
        """Make `event.data` an instance of its model, where that is known; else leave it as it is.

        Raises:
            EventMismatch: the data does not fit the model; it carries the event as it came.
        """
        model = self._by_type.get(event.type) if event.type is not None else None
        if model is None or event.kind != Kind.WORKFLOW:
            return
        try:
            event.data = _validate(model, event.data)
        except ValidationError as error:
            raise EventMismatch(
                f"event {event.seq} does not fit the model {event.type}: {error}",
                event=event,
                hint="writer and reader may have different versions of the model; reading on gives the next event",
            ) from error


def _validate(model: type[BaseModel], data: Any) -> BaseModel:
    # By name: the writer dumps fields by their names, and the aliases are for others. Not strict, even where the model
    # is: a UUID arrives as str and a tuple as list, since msgpack has neither.
    return model.model_validate(data, strict=False, by_alias=True, by_name=True)
