"""Texts that a busy workflow writes one after the other, joined into one event: a reader shows them in a row anyway."""

from tailplane.protocol.events import pack_event
from tailplane.workers.branches import Branch


class Joint:
    """Text events of one channel and branch that become one.

    Attributes:
        branch: that wrote them.
        size: bytes of msgpack that it counts for; it will have no more.
    """

    def __init__(self, channel: str | None, branch: Branch | None) -> None:
        self._channel = channel
        self.branch = branch
        self._texts: list[str] = []
        self.size = 0

    def takes(self, channel: str | None, branch: Branch | None, size: int, most: int) -> bool:
        """Return whether a text that would be an event of `size` bytes belongs to it and keeps it below `most`."""
        return channel == self._channel and branch is self.branch and self.size + size <= most

    def add(self, text: str, size: int) -> int:
        """Join a text that would be an event of `size` bytes; return how many bytes it counts for."""
        # The first pays for what surrounds the text, also where it grows: its header by four bytes at the most.
        counted = len(text.encode()) if self._texts else size + 4
        self._texts.append(text)
        self.size += counted
        return counted

    def packed(self) -> bytes:
        """Return the event."""
        return pack_event("".join(self._texts), self._channel, None if self.branch is None else self.branch.step)
