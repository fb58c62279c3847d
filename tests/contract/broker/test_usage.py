"""What tenants and API keys take: exact where many ask at once, by the server's clock, forgotten in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from fractions import Fraction
from importlib import resources

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from tailplane.broker import Broker, Request, TaskRef, connect, scripts
from tailplane.broker.tenants import FASTEST, SLOWEST
from tailplane.broker.usage import BELIEVED_MS, Rate, Stored
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.ids import new_task_id

RETENTION = timedelta(hours=24)
SLOW = Rate("acme", 0.001)


def level_text() -> str:
    return (resources.files(scripts) / "shared" / "level.lua").read_text("utf-8")


@pytest.fixture
async def others(server: EmbeddedServer, broker: Broker) -> AsyncIterator[list[Broker]]:
    """The same deployment, by connections of their own."""
    clients = [connect(server.url, Redis) for _ in range(4)]
    yield [
        Broker.over(client, prefix=broker.keys.prefix, retention=RETENTION, start_within=RETENTION)
        for client in clients
    ]
    for client in clients:
        await client.aclose(close_connection_pool=True)


class TestSubmits:
    async def test_of_those_of_several_clients_as_many_are_taken_as_there_are(self, others: list[Broker]) -> None:
        # A second's worth at once; the rest comes one in a thousand seconds.
        for rate, burst in [(SLOW, 1), (Rate("globex", 7.9), 7)]:
            slow = Rate(rate.account, rate.per_second)
            began = time.monotonic()
            tries = [other.usage.take_submit("acme", [slow], None) for other in others for _ in range(50)]
            answers = await asyncio.gather(*tries)
            grown = (time.monotonic() - began) * rate.per_second
            taken = sum(may for may, _ in answers)
            assert burst <= taken <= burst + grown + 1e-3, rate

    async def test_over_seconds_as_many_are_taken_as_the_rate_gives(self, broker: Broker, others: list[Broker]) -> None:
        rate, taken = Rate("acme", 100), 0
        now_ms = broker.queue.now_ms
        began = emptied = await now_ms()
        # Each time until one is refused. By the server's clock, the bounds hold however long anybody takes to ask.
        for pause in (0, 0.3, 0.6, 0.3, 1.2):
            await asyncio.sleep(pause)
            asked, in_turn, is_refused = await now_ms(), 0, False
            while not is_refused:
                tries = [other.usage.take_submit("acme", [rate], None) for other in others for _ in range(30)]
                answers = [may for may, _ in await asyncio.gather(*tries)]
                in_turn += sum(answers)
                is_refused = not all(answers)
            # What came anew since one was refused, up to a second's worth; the clock's ms are whole.
            least = rate.burst if pause == 0 else min(rate.burst, (asked - emptied - 1) * rate.per_second / 1000)
            assert in_turn > least - 1 - 1e-3, (pause, asked - emptied)
            taken += in_turn
            emptied = await now_ms()
            assert taken <= rate.burst + (emptied + 1 - began) * rate.per_second / 1000 + 1e-3

    @pytest.mark.parametrize("per_second", [SLOWEST, FASTEST])
    async def test_the_slowest_and_the_fastest_rates_are_exact(self, broker: Broker, per_second: float) -> None:
        rate = Rate("acme", per_second)
        for may_be in (True, per_second > 1):
            may, (left,) = await broker.usage.take_submit("acme", [rate], None)
            assert may is may_be
        assert left.submits in (rate.burst - 1, rate.burst - 2) if may else left.submits == 0
        assert left.until_all <= 1 / SLOWEST

    async def test_of_two_accounts_both_must_have_one_left(self, broker: Broker) -> None:
        usage, many = broker.usage, Rate("k_many", 50)
        may, left = await usage.take_submit("acme", [SLOW, many], None)
        assert may
        assert [each.submits for each in left] == [0, 49]
        may, left = await usage.take_submit("acme", [SLOW, many], None)
        assert not may
        # What the tenant has not left is not taken of the key.
        assert left[0].submits == 0
        assert left[1].submits >= 49
        assert 990 < left[0].until_one <= 1000
        assert left[1].until_one == 0

    async def test_who_only_looks_takes_nothing(self, broker: Broker) -> None:
        for _ in range(3):
            _, (left,) = await broker.usage.take_submit("acme", [SLOW], None, only_look=True)
            assert left.submits == 1
        assert (await broker.usage.take_submit("acme", [SLOW], None))[0]

    async def test_a_request_that_was_answered_takes_nothing_and_is_never_refused(self, broker: Broker) -> None:
        request = Request("digest", "content")
        assert (await broker.usage.take_submit("acme", [SLOW], request))[0]
        assert not (await broker.usage.take_submit("acme", [SLOW], request))[0]
        await broker.queue.enqueue(TaskRef(new_task_id(), "acme"), "echo", request=request)
        for _ in range(3):
            assert await broker.usage.take_submit("acme", [SLOW], request) == (True, [])
        # Another tenant's key is another request.
        assert not (await broker.usage.take_submit("globex", [SLOW], request))[0]

    async def test_nothing_is_kept_of_who_has_all_left(self, broker: Broker, redis: Redis) -> None:
        await broker.usage.take_submit("acme", [Rate("acme", 1000)], None)
        ttl = await redis.pttl(broker.keys.rate("acme"))
        assert ttl in range(-2, 10)

    async def test_a_clock_that_was_set_back_lets_nobody_wait_for_it(self, broker: Broker, redis: Redis) -> None:
        hence = (int(time.time()) + 3600) * 1_000_000
        await redis.set(broker.keys.rate("acme"), f"{hence} 1")
        assert (await broker.usage.take_submit("acme", [SLOW], None))[0]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_second=st.one_of(st.integers(1, 5000), st.floats(0.01, 5000, allow_nan=False)),
    pauses=st.lists(st.one_of(st.just(0), st.integers(0, 3_000_000)), min_size=1, max_size=60),
)
def test_the_level_is_that_of_a_bucket_of_exact_fractions(
    server: EmbeddedServer, per_second: float, pauses: list[int]
) -> None:
    rate = Rate("acme", per_second)
    script = (
        level_text()
        + """
    local kept, now, out = '', 0, {}
    for i = 3, #ARGV do
      now = now + tonumber(ARGV[i])
      local level = level_at(now, kept, tonumber(ARGV[1]))
      local left, _, until_one = what_is_left(level, tonumber(ARGV[1]), tonumber(ARGV[2]))
      if until_one == 0 then kept = string.format('%.0f %.17g', now, level + 1) end
      out[#out + 1], out[#out + 2] = until_one == 0 and 1 or 0, left
    end
    return out
    """
    )
    with BlockingRedis.from_url(server.url) as redis:
        rows = redis.eval(script, 0, repr(float(per_second)), rate.burst, *pauses)
    assert isinstance(rows, list)
    # A bucket of so many places, which empties by so many a second; what lies beside it within a millionth may go
    # either way, and the model follows.
    level, speed = Fraction(0), Fraction(per_second)
    for pause, (taken, left) in zip(pauses, zip(rows[::2], rows[1::2], strict=True), strict=True):
        level = max(Fraction(0), level - pause * speed / 1_000_000)
        over = level + 1 - rate.burst
        if abs(over) > Fraction(1, 100_000):
            assert taken == (over < 0)
            assert abs(left - (rate.burst - level)) < 1 + Fraction(1, 100_000)
        level += taken


class TestReaders:
    async def test_each_control_plane_is_told_how_many_the_others_have(self, broker: Broker) -> None:
        usage = broker.usage
        assert await usage.tell_readers("a", {"acme": 3, "k_1": 1}) == {"acme": 0, "k_1": 0}
        assert await usage.tell_readers("b", {"acme": 4}) == {"acme": 3}
        assert await usage.tell_readers("c", {"acme": 0, "k_1": 0}) == {"acme": 7, "k_1": 1}
        assert await usage.tell_readers("a", {"acme": 5}) == {"acme": 4}
        assert await usage.tell_readers("c", {"acme": 0}) == {"acme": 9}

    async def test_one_that_has_none_leaves_nothing(self, broker: Broker, redis: Redis) -> None:
        await broker.usage.tell_readers("a", {"acme": 3})
        await broker.usage.tell_readers("a", {"acme": 0})
        assert not await redis.exists(broker.keys.readers("acme"))

    async def test_a_dead_one_does_not_count_for_ever(self, broker: Broker, redis: Redis) -> None:
        now_ms = await broker.queue.now_ms()
        key = broker.keys.readers("acme")
        await redis.hset(key, "dead", f"5 {now_ms - BELIEVED_MS - 1}")
        await redis.hset(key, "late", f"7 {now_ms - BELIEVED_MS + 2000}")
        # Of one that died before the clock was set back.
        await redis.hset(key, "ahead", f"9 {now_ms + 3_600_000}")
        assert await broker.usage.tell_readers("a", {"acme": 1}) == {"acme": 7}
        assert set(await redis.hgetall(key)) == {b"a", b"late"}
        assert await redis.pttl(key) > BELIEVED_MS


class TestStored:
    async def test_what_is_told_adds_up(self, broker: Broker) -> None:
        await broker.usage.note_stored({"acme": 100, "globex": 7})
        await broker.usage.note_stored({"acme": 50})
        found = await broker.usage.stored(["acme", "globex", "nobody"])
        assert {tenant: stored.count for tenant, stored in found.items()} == {"acme": 150, "globex": 7, "nobody": 0}
        assert found["nobody"] == Stored()
        part = broker.usage.retention / 24
        assert 0 < found["acme"].until_less - broker.usage.retention.total_seconds() <= part.total_seconds()

    async def test_what_is_older_than_the_retention_counts_no_more_and_leaves(
        self, broker: Broker, redis: Redis
    ) -> None:
        usage, key, now_ms = broker.usage, broker.keys.stored("acme"), await broker.queue.now_ms()
        retention_ms = int(usage.retention.total_seconds() * 1000)
        part_ms = retention_ms // 24
        gone, going = now_ms - retention_ms - part_ms - 1, now_ms - retention_ms - part_ms + 60_000
        await redis.hset(key, mapping={str(gone): 1000, str(going): 200})
        found = (await usage.stored(["acme"]))["acme"]
        assert found.count == 200
        assert 0 < found.until_less <= 60
        await usage.note_stored({"acme": 3})
        assert str(gone).encode() not in await redis.hgetall(key)
        assert (await usage.stored(["acme"]))["acme"].count == 203
        assert 0 < await redis.pttl(key) <= retention_ms + 2 * part_ms
