"""Write a tone's chunks to a .wav file as they arrive.

While the workflow is served, run:

    python examples/audio_chunks/client.py tone.wav --seconds 2 --frequency 440
"""

import argparse
import asyncio
import wave

from tone import Tone

from tailplane.client import Client


async def main(path: str, tone: Tone) -> None:
    async with Client() as client:
        task = await client.run_workflow("make_tone", tone)
        with wave.open(path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(tone.rate)
            async for event in task.events(include_platform=False):
                if event.channel == "audio":
                    file.writeframes(event.data)
                    print(f"chunk of {len(event.data):,} bytes, {file.tell() / tone.rate:.1f} s so far", flush=True)
                else:
                    print(event.data)


parser = argparse.ArgumentParser(description="Write a tone to a .wav file, chunk by chunk.")
parser.add_argument("path")
parser.add_argument("--seconds", type=float, default=2)
parser.add_argument("--frequency", type=float, default=440)
given = parser.parse_args()
asyncio.run(main(given.path, Tone(seconds=given.seconds, frequency_hz=given.frequency)))
