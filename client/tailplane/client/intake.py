"""Where the content of one connection turns into events: its bytes come in here, batches go to the stream's buffer.

It runs inside the event loop's callbacks, for each piece that the socket gives: nothing here waits, and no task wakes
but the consumer's. It knows how its connection ends, and minds the silence and the buffer's bound.
"""

import asyncio
import time
from collections.abc import Callable

from tailplane.client.buffer import BatchBuffer
from tailplane.client.decoder import FrameDecoder
from tailplane.client.endings import Ending, Lost


class Intake:
    """What one connection's content goes through.

    Attributes:
        decoder: has the cursor.
        last_byte_at: `time.monotonic()` at the last byte, or when it began to wait for one.
        ended: gets the ending.
    """

    def __init__(self, decoder: FrameDecoder, buffer: BatchBuffer, silence_s: float) -> None:
        """Take nothing yet.

        Args:
            decoder: for this connection.
            buffer: takes the events.
            silence_s: how long a connection that is read may be silent before it counts as lost.
        """
        loop = asyncio.get_running_loop()
        self.decoder = decoder
        self.ended: asyncio.Future[Ending] = loop.create_future()
        self.last_byte_at = time.monotonic()
        self._buffer = buffer
        self._not_handed_over = 0
        self._silence_s = silence_s
        # One timer for the connection that looks at the clock, not one that each piece sets anew.
        self._timer = loop.call_later(silence_s, self._look_at_silence)
        self._resume: Callable[[], None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether the buffer is full, so that the connection must be left unread until it is resumed."""
        return self._resume is not None

    def feed(self, content: bytes) -> bool:
        """Take the next piece, and return whether the buffer is full: then `hold` before feeding more."""
        self.last_byte_at = time.monotonic()
        decoder = self.decoder
        batches = decoder.feed(content)
        self._not_handed_over += len(content)
        is_full = False
        if batches:
            is_full = self._buffer.put(batches, self._not_handed_over)
            self._not_handed_over = 0
        if decoder.ending is not None:
            self.end(decoder.ending)
            return False
        return is_full

    def hold(self, resume: Callable[[], None]) -> None:
        """Be left alone until there is room again; then call `resume`."""
        self._resume = resume
        self._buffer.on_room = self._go_on

    def end(self, ending: Ending) -> None:
        """Note how it ended; only the first time counts."""
        if not self.ended.done():
            self.ended.set_result(ending)
            self.close()

    def close(self) -> None:
        """Forget the timer and the buffer."""
        self._timer.cancel()
        if self._resume is not None:
            self._resume = None
            self._buffer.on_room = None

    def _go_on(self) -> None:
        # The silence was ours: what the control plane sent meanwhile waits in the socket.
        self.last_byte_at = time.monotonic()
        resume, self._resume = self._resume, None
        self._buffer.on_room = None
        if resume is not None:
            resume()

    def _look_at_silence(self) -> None:
        left = self._silence_s if self.is_held else self.last_byte_at + self._silence_s - time.monotonic()
        if left <= 0:
            self.end(Lost(TimeoutError("the connection fell silent")))
        else:
            self._timer = asyncio.get_running_loop().call_later(left, self._look_at_silence)
