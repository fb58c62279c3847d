"""Makes a tone and sends it in chunks of a tenth of a second: events may be bytes.

    tailplane dev examples/audio_chunks/workflow.py

A sync function runs in a thread, so it may compute for as long as it likes.
"""

import math
import struct

from tone import Tone

from tailplane.workers import Context, workflow

LOUDNESS = 0.5 * 32767


@workflow
def make_tone(ctx: Context, tone: Tone) -> None:
    """Synthesise a sine tone as mono PCM of 16 bits."""
    ctx.write_event_to_stream(f"{tone.seconds:g} s of {tone.frequency_hz:g} Hz")
    frames = round(tone.seconds * tone.rate)
    step = tone.rate // 10
    for first in range(0, frames, step):
        chunk = pcm(tone, first, min(first + step, frames))
        # The channel lets readers tell the audio from the rest.
        ctx.write_event_to_stream(chunk, channel="audio")


def pcm(tone: Tone, first: int, end: int) -> bytes:
    turn = 2 * math.pi * tone.frequency_hz / tone.rate
    samples = [round(LOUDNESS * math.sin(turn * frame)) for frame in range(first, end)]
    return struct.pack(f"<{len(samples)}h", *samples)
