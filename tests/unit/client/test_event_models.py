from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tailplane.client.event_models import EventModels
from tailplane.protocol import codec
from tailplane.protocol.errors import EventMismatch
from tailplane.protocol.events import Event


class Progress(BaseModel):
    done: int
    of: int


class Awkward(BaseModel):
    model_config = ConfigDict(strict=True)

    key: UUID
    price: Decimal
    pair: tuple[int, str]
    at: datetime
    raw: bytes
    inner: Progress
    named: int = Field(alias="otherName")


def event(type_: str | None, data: object, kind: str = "workflow") -> Event:
    return Event(3, 1, 0.0, data, type_, kind=kind)


def test_known_types_become_models_and_others_stay() -> None:
    models = EventModels([Progress])
    known, unknown, untyped = (
        event("Progress", {"done": 1, "of": 2}),
        event("Other", {"a": 1}),
        event(None, {"done": 1}),
    )

    for each in (known, unknown, untyped):
        models.restore(each)

    assert known.data == Progress(done=1, of=2)
    assert (unknown.data, untyped.data) == ({"a": 1}, {"done": 1})


def test_a_model_survives_the_wire_whatever_its_fields_and_configuration() -> None:
    written = Awkward(
        key=uuid4(),
        price=Decimal("1.10"),
        pair=(1, "a"),
        at=datetime(2026, 1, 1, tzinfo=UTC),
        raw=b"\x00\xff",
        inner=Progress(done=1, of=2),
        otherName=5,
    )
    read = event("Awkward", codec.unpack(codec.pack(written)))

    EventModels([Awkward]).restore(read)

    assert read.data == written


def test_a_mismatch_carries_the_event_as_it_came() -> None:
    wrong = event("Progress", {"done": "many"})

    with pytest.raises(EventMismatch, match="event 3 does not fit the model Progress") as caught:
        EventModels([Progress]).restore(wrong)

    assert caught.value.event is wrong
    assert wrong.data == {"done": "many"}


def test_the_platform_is_never_taken_for_a_model() -> None:
    platform = event("Progress", {"x": 1}, kind="platform")
    EventModels([Progress]).restore(platform)

    assert platform.data == {"x": 1}


def test_two_models_of_one_name_are_refused() -> None:
    other = type("Progress", (BaseModel,), {})

    with pytest.raises(ValueError, match="same name"):
        EventModels([Progress, other])
    EventModels([Progress, Progress])
