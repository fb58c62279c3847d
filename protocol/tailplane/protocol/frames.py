"""How entries travel to our own client: msgpack frames. No I/O.

A frame is `[fence, last_seq, payload]` with the stored payload as it is, so that the control plane never decodes what
it passes on. Keep-alives are nil; notices are maps. See PROTOCOL.md 3.3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tailplane.protocol import codec
from tailplane.protocol.ids import EntryId

MSGPACK_TYPE = "application/vnd.tailplane.frames+msgpack"
KEEP_ALIVE = b"\xc0"


def encode_frame(entry: EntryId, payload: bytes) -> bytes:
    """Return an entry as one frame."""
    return b"\x93" + codec.pack(entry.fence) + codec.pack(entry.seq) + payload


def encode_notice(notice: Mapping[str, Any]) -> bytes:
    """Return a notice, such as `{"reconnect_ms": 500}`, as one frame."""
    return codec.pack(notice)


def parse_frame(frame: Sequence[Any]) -> tuple[EntryId, list[Any]]:
    """Return an unpacked frame's entry id and payload."""
    fence, seq, payload = frame
    return EntryId(fence, seq), payload
