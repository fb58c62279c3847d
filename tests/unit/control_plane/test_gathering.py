import asyncio
from typing import Any

from tailplane.control_plane.gathering import GatheringTransport


class Transport:
    """Notes what is written to it."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.is_lost = False

    def write(self, data: bytes) -> None:
        assert not self.is_lost
        self.said.append(data)

    def close(self) -> None:
        self.said.append("closed")

    def is_closing(self) -> bool:
        return self.is_lost

    def get_extra_info(self, name: str) -> str:
        return name


def gathering(transport: Any) -> GatheringTransport:
    return GatheringTransport(transport, asyncio.get_running_loop())


async def test_what_is_written_in_one_turn_goes_out_as_one() -> None:
    behind = Transport()
    transport = gathering(behind)

    for turn in (b"a", b"b"):
        transport.write(turn + b"1")
        transport.write(turn + b"2")
        assert turn + b"1" not in behind.said
        await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert behind.said == [b"a1a2", b"b1b2"]


async def test_what_was_written_before_the_close_goes_out() -> None:
    behind = Transport()
    transport = gathering(behind)

    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0)

    assert behind.said == [b"last", "closed"]


async def test_nothing_is_written_to_a_connection_that_was_lost() -> None:
    behind = Transport()
    transport = gathering(behind)

    transport.write(b"too late")
    behind.is_lost = True
    await asyncio.sleep(0)

    assert behind.said == []
    assert transport.is_closing()


async def test_everything_else_is_the_transport_s_own() -> None:
    assert gathering(Transport()).get_extra_info("peername") == "peername"


async def test_more_than_a_little_goes_out_at_once_so_that_a_slow_client_is_noticed() -> None:
    behind = Transport()
    transport = gathering(behind)

    transport.write(b"head")
    transport.write(b"x" * 20_000)
    assert behind.said == [b"head" + b"x" * 20_000]
    transport.write(b"rest")
    await asyncio.sleep(0)

    assert behind.said[1:] == [b"rest"]
