"""The limits, by the workload that they bound.

W2: XADD by one bare process to XREAD BLOCK in another; a bare uvicorn response to a bare socket.
W3: the same, as fast as they can. W6: bare uvicorn responses to many bare sockets, as fast as they can.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from urllib.parse import urlencode

from benchmarks.percentiles import spread_ms
from benchmarks.raw_readers import RawReaders
from benchmarks.stand import Figures, Stand
from benchmarks.system import RawStream

# Events in one piece of a response: as many as a busy server would send together.
_CHUNK = 64


async def paced(stand: Stand) -> None:
    count, rate = stand.params["events"] * stand.params["tasks"], stand.params["rate"]
    latencies: list[float] = []
    await _through_redis(stand, count, rate, lambda event: latencies.append(time.monotonic() - json.loads(event)["t"]))
    stand.cases["one task"] = {"events": count, **spread_ms(latencies)}
    readers = RawReaders([_stream(stand, count=count, rate=rate)], expected=count)
    await readers.run(stand.params["time_limit"])
    stand.cases["bare uvicorn"] = {"events": count, **spread_ms(readers.latencies)}


async def flat_out(stand: Stand) -> None:
    for count in stand.params["events"]:
        stand.cases[f"{count} events"] = await _uvicorn(stand, 1, count, chunk=_CHUNK)
    stand.cases["bare uvicorn, one event a piece"] = await _uvicorn(stand, 1, count)
    arrivals: list[float] = []
    seconds = await _through_redis(stand, count, 0, lambda _: arrivals.append(time.monotonic()))
    stand.cases["XADD, one event an entry"] = {"events": count, "events_per_s": count / seconds}
    stand.cases["XADD to XREAD"] = {"events": count, "events_per_s": count / (arrivals[-1] - arrivals[0])}


async def many_readers(stand: Stand) -> None:
    for count in stand.params["readers"]:
        events = stand.params["flat_out"][str(count)]
        figures = await _uvicorn(stand, count, events, chunk=_CHUNK)
        stand.cases[f"{count} readers flat out, SSE"] = figures


async def _uvicorn(stand: Stand, readers: int, count: int, *, rate: float = 0, chunk: int = 1) -> Figures:
    delay = stand.params.get("delay", 0.0)
    stream = _stream(stand, count=count, rate=rate, chunk=chunk, delay=delay)
    several = RawReaders([stream] * readers, expected=count)
    await several.run(stand.params["time_limit"])
    per_s = several.deliveries / max(several.last_at - several.first_at, 1e-6)
    figures = {"events_per_s" if readers == 1 else "deliveries_per_s": per_s}
    return {"events": count, "lost": readers * count - several.deliveries} | (
        spread_ms(several.latencies) if rate else figures
    )


def _stream(stand: Stand, **asked: float) -> RawStream:
    port = stand.started.address["port"]
    return RawStream("127.0.0.1", port, f"GET /?{urlencode(asked)} HTTP/1.1\r\nHost: bare\r\n\r\n".encode())


async def _through_redis(stand: Stand, count: int, rate: float, note: Callable[[bytes], None]) -> float:
    """Read what another process adds, event by event; return the seconds that it took to add them."""
    from benchmarks.systems.raw.writer import KEY, Connection, pack

    port = stand.started.address["redis_port"]

    def read() -> None:
        connection, last, seen = Connection(port), b"0-0", 0
        while seen < count:
            connection.send(pack(b"XREAD", b"COUNT", b"500", b"BLOCK", b"10000", b"STREAMS", KEY, last))
            found = connection.reply()
            if found is None:
                raise TimeoutError(f"{seen} of {count} events came")
            for last, (_, event) in found[0][1]:  # noqa: B007 - the last one is where to go on
                note(event)
                seen += 1

    # A stream of its own for each measurement.
    forgetful = Connection(port)
    forgetful.send(pack(b"DEL", KEY))
    forgetful.reply()
    reading = asyncio.create_task(asyncio.to_thread(read))
    command = [sys.executable, "-m", "benchmarks.systems.raw.writer", str(port), str(count), str(rate)]
    writer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await writer.communicate()
    await reading
    return float(output)
