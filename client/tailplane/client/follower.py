"""Takes a stream's connection over after the answer's head: from the socket to the stream's buffer without a stop."""

import httpx2

from tailplane.client.bodies import Body
from tailplane.client.endings import Lost
from tailplane.client.intake import Intake
from tailplane.client.pieces import PieceProtocol


class Follower(PieceProtocol):
    """Decodes one answer's body into an intake. It does not close the connection: who handed it over does."""

    def __init__(self, body: Body, intake: Intake, memory: memoryview) -> None:
        """Decode nothing yet; `memory` is for its pieces."""
        super().__init__(memory)
        self._body = body
        self._intake = intake

    def take_piece(self, piece: bytes) -> None:
        """Take the next piece from the socket."""
        intake = self._intake
        if intake.ended.done():
            return
        body = self._body
        content = body.feed(piece)
        if content and intake.feed(content):
            intake.hold(self._resume)
            self._pause()
        if body.is_complete or body.failure is not None:
            self._end(None)

    def eof_received(self) -> None:
        """Note the end; the transport then closes itself."""
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        """End, unless the end was seen before."""
        self._body.end()
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        failure = self._body.failure
        if failure is None:
            reason: Exception = EOFError("the response ended without a terminal event")
        elif error is None:
            reason = httpx2.RemoteProtocolError(failure)
        else:
            reason = httpx2.ReadError(str(error))
        self._intake.end(Lost(reason))

    def _pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()
