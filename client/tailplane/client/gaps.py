"""From the event that stands for what a stream has no more to the error that says so. No I/O."""

from tailplane.protocol.errors import StreamGap
from tailplane.protocol.events import Event, PlatformType

# Looking a member up in its enum costs more than the comparison, hundreds of thousands of times a second.
_GAP = PlatformType.GAP


def is_gap(event: Event) -> bool:
    """Whether an event of the platform stands for events that are gone."""
    return event.type == _GAP


def error_of_gap(event: Event) -> StreamGap:
    """Return what a gap raises in its place."""
    first, last = event.data["from"], event.data["to"]
    return StreamGap(
        f"the stream has no more of events {first} to {last}",
        last_seq=first - 1,
        next_seq=last + 1,
        hint="iterating on gives what it has",
    )
