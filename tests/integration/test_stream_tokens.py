"""Stream tokens on a real deployment: two control planes behind which one task writes, and readers of both."""

import asyncio
import time
from collections.abc import Iterator

import httpx2
import pytest

from tailplane.client import Client, Unauthenticated
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

from .conftest import WORKFLOWS

pytestmark = pytest.mark.process

KEY = ApiKey.draw(new_key_id())
DEADLINE = 60
# Seconds: what is promised, and what a busy machine may add.
PROMISED, SLACK = 2.0, 8.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(WORKFLOWS), control_planes=2, api_key=KEY.text)) as running:
        yield running


async def test_what_is_revoked_on_one_control_plane_ends_on_the_other(guarded: LocalCluster) -> None:
    here, there = guarded.urls
    async with Client(here, api_key=KEY.text) as owner:
        task = await owner.run_workflow("tick", 0.05)
        gone, kept = await task.stream_token(), await task.stream_token()
        where = f"{there}/v1/tasks/{task.task_id}/events"
        async with httpx2.AsyncClient(timeout=DEADLINE) as http:
            async with (
                http.stream("GET", where, params={"token": gone.token}) as cut,
                http.stream("GET", where, params={"token": kept.token}) as other,
            ):
                lines, goes_on = cut.aiter_lines(), other.aiter_lines()
                assert (cut.status_code, other.status_code) == (200, 200)
                await anext(goes_on)
                began = time.monotonic()
                await owner.revoke_token(gone.token_id)
                async with asyncio.timeout(PROMISED + SLACK):
                    last = [line async for line in lines if line][-1]
                assert time.monotonic() - began < PROMISED + SLACK
                assert last.startswith("retry: ")
                async with asyncio.timeout(DEADLINE):
                    seen = 0
                    while seen < 5:
                        seen += (await anext(goes_on)).startswith("data: ")
            refused = await http.get(where, params={"token": gone.token})
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        await task.cancel()


async def test_readers_of_both_go_on_with_fresh_tokens_while_theirs_are_revoked(guarded: LocalCluster) -> None:
    issued: list[str] = []
    async with Client(guarded.url, api_key=KEY.text) as owner:
        task = await owner.run_workflow("tick", 0.05)

        async def fetch() -> str:
            token = await task.stream_token()
            issued.append(token.token_id)
            return token.token

        async def read(client: Client, seqs: list[int]) -> None:
            async for event in client.task(task.task_id).events():
                seqs.append(event.seq)

        readers = [Client(url, api_key=fetch) for url in guarded.urls for _ in range(3)]
        seen: list[list[int]] = [[] for _ in readers]
        reading = [asyncio.create_task(read(client, seqs)) for client, seqs in zip(readers, seen, strict=True)]

        async def all_read_on(rounds: int) -> None:
            # With their new tokens: one that is revoked before it was used once is the end.
            while len(issued) < rounds * len(readers):
                await asyncio.sleep(0.02)
            newest = max(seqs[-1] for seqs in seen if seqs) if any(seen) else 0
            while not all(seqs and seqs[-1] > newest for seqs in seen):
                await asyncio.sleep(0.02)

        async with asyncio.timeout(DEADLINE):
            for rounds in range(1, 4):
                await all_read_on(rounds)
                for token_id in issued[-len(readers) :]:
                    await owner.revoke_token(token_id)
            await all_read_on(4)
            await task.cancel()
            await asyncio.gather(*reading)
        assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in seen)
        assert len({len(seqs) for seqs in seen}) == 1
        for client in readers:
            await client.aclose()
        async with Client(guarded.urls[1], api_key="tps_x.y") as nobody:
            with pytest.raises(Unauthenticated):
                await nobody.task(task.task_id).status()
