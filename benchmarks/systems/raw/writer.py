"""A process that adds events to a stream with commands packed by hand, over a bare socket.

    python -m benchmarks.systems.raw.writer PORT COUNT RATE

RATE 0: as fast as it can, 100 commands in a batch, and prints the seconds that it took.
"""

import socket
import sys
import time

import hiredis

KEY = b"raw"
_PADDING = "x" * 150
_BATCH = 100


def pack(*words: bytes) -> bytes:
    """Return a command as RESP."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Connection:
    """A blocking connection: sends commands, takes replies."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = hiredis.Reader()

    def send(self, commands: bytes) -> None:
        """Send packed commands."""
        self._socket.sendall(commands)

    def reply(self) -> object:
        """Return the next reply."""
        while (reply := self._replies.gets()) is False:
            self._replies.feed(self._socket.recv(262_144))
        if isinstance(reply, Exception):
            raise reply
        return reply


def event(i: int) -> bytes:
    return f'{{"i":{i},"t":{time.monotonic()},"pad":"{_PADDING}"}}'.encode()


def main() -> None:
    port, count, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    connection = Connection(port)
    begun = time.monotonic()
    if rate:
        for i in range(count):
            connection.send(pack(b"XADD", KEY, b"*", b"e", event(i)))
            connection.reply()
            time.sleep(1 / rate)
    else:
        # Packed once: Redis is to be the limit, not the packing.
        command = pack(b"XADD", KEY, b"*", b"e", event(0))
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            connection.send(command * size)
            for _ in range(size):
                connection.reply()
    print(time.monotonic() - begun)


if __name__ == "__main__":
    main()
