import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tailplane.client import dialling
from tailplane.client.dialling import Address, dial, interleave

pytestmark = pytest.mark.anyio

SIX = [(socket.AF_INET6, (f"::{number}", 80, 0, 0)) for number in range(1, 4)]
FOUR = [(socket.AF_INET, (f"127.0.0.{number}", 80)) for number in range(1, 3)]


@pytest.fixture
def listening() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield socket.AF_INET, server.getsockname()


@pytest.fixture
def refusing() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.AF_INET, server.getsockname()


@pytest.fixture
def swallowing() -> Iterator[Address]:
    """An address that answers nothing: the queue of its listener is full, so that Linux drops what comes."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield socket.AF_INET, server.getsockname()


def test_families_take_turns() -> None:
    assert interleave([*FOUR, *SIX]) == [SIX[0], FOUR[0], SIX[1], FOUR[1], SIX[2]]
    assert interleave(FOUR) == FOUR


async def test_a_name_and_an_address_are_dialled(listening: Address) -> None:
    _, (_, port) = listening
    for host in ("localhost", "127.0.0.1"):
        with await dial(host, port) as connected:
            assert connected.getpeername() == ("127.0.0.1", port)
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_name_that_nobody_knows_is_an_os_error() -> None:
    with pytest.raises(socket.gaierror):
        await dial("tailplane.invalid", 80)


async def test_an_address_that_refuses_gives_way_at_once(listening: Address, refusing: Address) -> None:
    clock = asyncio.get_running_loop().time
    begin = clock()
    with await dialling._race([refusing, listening]) as connected:
        assert connected.getpeername() == listening[1]
    assert clock() - begin < dialling._HEAD_START_S


async def test_an_address_that_swallows_packets_has_a_head_start_only(listening: Address, swallowing: Address) -> None:
    async with asyncio.timeout(5):
        with await dialling._race([swallowing, listening]) as connected:
            assert connected.getpeername() == listening[1]


async def test_the_last_refusal_is_the_error(refusing: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        await dialling._race([refusing, refusing])


async def test_who_gives_up_leaves_no_socket_behind(swallowing: Address) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await dialling._race([swallowing, swallowing])
