"""How entries travel to our own client: msgpack frames. No I/O.

A frame is `[fence, last_seq, payload]` with the stored payload as it is, so that the control plane never decodes what
it passes on; in the stream of a session it also has the task's number. Keep-alives are nil; notices are maps. See
PROTOCOL.md 3.3.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tailplane.protocol import codec
from tailplane.protocol.ids import EntryId

MSGPACK_TYPE = "application/vnd.tailplane.frames+msgpack"
KEEP_ALIVE = b"\xc0"
# What begins an unsigned number of so many bytes. By hand: there is a head for every entry.
_INT_SIZES = ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8))
_HEAD_16 = struct.Struct(">BBBH")


def frame_head(entry: EntryId) -> bytes:
    """Return what a frame has before its payload."""
    fence, seq = entry
    if fence < 0x80:
        # Nearly all of them.
        if seq < 0x80:
            return bytes((0x93, fence, seq))
        if 0xFF < seq < 0x10000:
            return _HEAD_16.pack(0x93, fence, 0xCD, seq)
    return b"\x93" + _pack_int(fence) + _pack_int(seq)


def encode_frame(entry: EntryId, payload: bytes) -> bytes:
    """Return an entry as one frame."""
    return frame_head(entry) + payload


def number_frame(frame: bytes, number: int) -> bytes:
    """Return a frame that also says which task of a session the entry is of: `[fence, last_seq, payload, number]`."""
    return b"".join((b"\x94", frame[1:], _pack_int(number)))


def split_frame(frame: bytes) -> tuple[EntryId, bytes]:
    """Return the entry's id and the payload of a frame that this module encoded, without decoding the payload."""
    if frame[1] < 0x80 and frame[2] == 0xCD:
        # Nearly all of them.
        return EntryId(frame[1], frame[3] << 8 | frame[4]), frame[5:]
    fence, at = _read_int(frame, 1)
    seq, at = _read_int(frame, at)
    return EntryId(fence, seq), frame[at:]


def _pack_int(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    for code, size in _INT_SIZES:
        if number < 1 << 8 * size:
            return bytes((code,)) + number.to_bytes(size, "big")
    raise ValueError(f"{number} has more than 64 bits")


def _read_int(frame: bytes, at: int) -> tuple[int, int]:
    first = frame[at]
    if first < 0x80:
        return first, at + 1
    # 0xcc to 0xcf: an unsigned number of 1, 2, 4 or 8 bytes follows.
    end = at + 1 + (1 << (first - 0xCC))
    return int.from_bytes(frame[at + 1 : end], "big"), end


def encode_notice(notice: Mapping[str, Any]) -> bytes:
    """Return a notice, such as `{"reconnect_ms": 500}`, as one frame."""
    return codec.pack(notice)


def parse_frame(frame: Sequence[Any]) -> tuple[EntryId, list[Any]]:
    """Return an unpacked frame's entry id and payload."""
    fence, seq, payload = frame
    return EntryId(fence, seq), payload
