"""What submits have written is told to Redis: also after Redis was away, and it counts from the first moment on."""

import pytest

from tailplane.broker import Broker
from tailplane.broker.usage import Usage
from tailplane.control_plane.stored import StoredBytes
from tailplane.protocol.errors import StoreUnavailable


async def test_what_could_not_be_told_counts_and_is_told_the_next_time(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_self: Usage, _written: object) -> None:
        raise StoreUnavailable

    stored = StoredBytes(broker.usage)
    stored.note("acme", 5)
    assert (await stored.find("acme")).count == 5
    with monkeypatch.context() as patch:
        patch.setattr(Usage, "note_stored", away)
        with pytest.raises(StoreUnavailable):
            await stored.refresh()
    stored.note("acme", 2)
    assert (await stored.find("acme")).count == 7
    await stored.refresh()
    assert (await stored.find("acme")).count == 7
    assert (await broker.usage.stored(["acme"]))["acme"].count == 7
