"""What tasks have written is told to Redis: once, also after Redis was away."""

import pytest

from tailplane.broker import Broker
from tailplane.broker.usage import Usage
from tailplane.protocol.errors import StoreUnavailable
from tailplane.workers.counts import Written
from tailplane.workers.stored import tell_once


async def test_it_is_told_and_then_told_no_more(broker: Broker) -> None:
    written = Written()
    written.note_stored("acme", 5)
    written.note_rest("globex", [b"123"])
    for _ in range(2):
        await tell_once(broker.usage, written)
    found = await broker.usage.stored(["acme", "globex"])
    assert {tenant: stored.count for tenant, stored in found.items()} == {"acme": 5, "globex": 3}


async def test_what_could_not_be_told_is_told_the_next_time(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_self: Usage, _written: object) -> None:
        raise StoreUnavailable

    written = Written()
    written.note_stored("acme", 5)
    with monkeypatch.context() as patch:
        patch.setattr(Usage, "note_stored", away)
        with pytest.raises(StoreUnavailable):
            await tell_once(broker.usage, written)
    written.note_stored("acme", 2)
    await tell_once(broker.usage, written)
    assert (await broker.usage.stored(["acme"]))["acme"].count == 7
