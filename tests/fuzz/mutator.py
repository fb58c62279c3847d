"""Makes inputs: values of the kinds that travel, well-formed texts, and what a few cruel changes make of them.

Everything comes from one seeded generator: the same seed gives the same inputs, in the same order.
"""

import json
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgpack

# Where things begin, end, overflow, or mean something to a parser.
NUMBERS = (0, 1, 2, 15, 16, 31, 32, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63)
TOKENS = (
    b"\x00", b"\x7f", b"\x80", b"\x90", b"\x91", b"\xa0", b"\xc0", b"\xc1", b"\xc4\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc7\x0c\xff", b"\xc9\x00\x00\x00\x01\x05", b"\xca", b"\xcb\x7f\xf0" + bytes(6), b"\xcb\x7f\xf8" + bytes(6),
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd6\xff\xff\xff\xff\xff", b"\xd7\xff" + b"\xff" * 8,
    b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xdd\x00\x0f\xff\xff" * 40, b"\x91" * 300, b"[", b"{", b"]", b"}", b"[" * 300, b'{"":', b'"', b'"\\ud800"',
    b"\\", b"\\u0000", b"NaN", b"Infinity", b"-", b"1e999", b"9" * 400, b"1.", b"null", b"true", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ",
    b",", b";", b"=", b"&", b"?", b"%", b"%00", b"%2e%2e/", b"../", b"//", b"@", b"0", b"-1", b"+1", b"0x10",
    b"1_000", b"\xd9\xa3", b"now", b"start", b"*/5", b"L", b"1-1000000", b"@yearly", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"chunked", b"ffffffffffffffff", b"0\r\n\r\n", b"tp_", b"tps_", b"k_", b"t_",
    b"Bearer ", b"token=", b"://a:b@", b"password='",
)  # fmt: skip


class Mutator:
    """A source of inputs."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def value(self, depth: int = 4) -> Any:
        """Return something that msgpack carries."""
        random = self.random
        kind = random.randrange(12 if depth else 8)
        match kind:
            case 0:
                return random.choice((None, True, False))
            case 1 | 2:
                return random.choice((1, -1)) * random.choice(NUMBERS) if random.random() < 0.7 else random.random()
            case 3 | 4:
                return self.text()
            case 5:
                return random.randbytes(random.randrange(20))
            case 6:
                return random.choice((float("inf"), float("nan"), -0.0, 1e308, 5e-324))
            case 7:
                return datetime.fromtimestamp(random.randrange(-(10**9), 10**10), UTC)
            case 8 | 9:
                return [self.value(depth - 1) for _ in range(random.randrange(5))]
            case _:
                keys = (self.text, lambda: random.choice(NUMBERS), lambda: random.randbytes(3))
                return {random.choice(keys)(): self.value(depth - 1) for _ in range(random.randrange(5))}

    def text(self) -> str:
        """Return a text of few characters, of any kind but lone surrogates."""
        random = self.random
        pools = ("abcXYZ019_-.", "\x00\r\n\t\"'\\/:;={}[]", "äß€漢字😀\u2028\ufeff", "%?&#@ *,")
        return "".join(random.choice(random.choice(pools)) for _ in range(random.randrange(12)))

    def packed(self) -> bytes:
        """Return a value as msgpack."""
        while True:
            try:
                packed: bytes = msgpack.packb(self.value(), datetime=True)
            except (OverflowError, ValueError):
                continue
            return packed

    def json(self) -> bytes:
        """Return a value as JSON."""
        return json.dumps(self.value(), default=str, skipkeys=True, ensure_ascii=self.random.random() < 0.5).encode()

    def bomb(self) -> bytes:
        """Return what is small on the wire and would be large, deep or slow when it is read."""
        random = self.random
        count = random.choice((300, 5_000, 60_000))
        unit = random.choice(
            (b"\x90", b"\x80", b"\x81\x00\x00", b"\x91", b"[],", b"[", b'{"":', b"{},", b"\xc0", b"0,")
        )
        head = random.choice((b"", b"[", b"\xdd" + struct.pack(">I", count), b"\xdd\xff\xff\xff\xff"))
        tail = random.choice((b"", b"1]", b"\xc0", b"]" * count))
        return head + unit * count + tail

    def mutated(self, seeds: Sequence[Callable[[], bytes]]) -> bytes:
        """Return one of what `seeds` make, most of the time changed."""
        random = self.random
        if random.random() < 0.004:
            return self.bomb()
        data = bytearray(random.choice(seeds)())
        for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
            self._change(data, seeds)
        return bytes(data)

    def _change(self, data: bytearray, seeds: Sequence[Callable[[], bytes]]) -> None:
        random = self.random
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.randrange(8))
        match random.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1 if at < len(data):
                data[at] = random.randrange(256)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = random.randbytes(random.randrange(1, 5))
            case 4 | 5:
                data[at:end] = random.choice(TOKENS)
            case 6:
                del data[at:]
            case 7:
                data[at:at] = data[at:end] * random.choice((1, 2, 50))
            case _:
                data[at:end] = random.choice(seeds)()[:200]

    def pieces(self, data: bytes) -> list[bytes]:
        """Return `data` as a network may split it."""
        random = self.random
        if random.random() < 0.3:
            return [data]
        cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(6)))
        return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
