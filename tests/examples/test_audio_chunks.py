"""Binary events: the file that the client writes is the tone itself."""

import math
import struct
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan

pytestmark = pytest.mark.process

RATE = 24_000


@pytest.fixture(scope="module")
def cluster(examples: Path, api_key: str) -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(examples / "audio_chunks/workflow.py"), api_key=api_key)) as running:
        yield running


def tone(frequency_hz: float, frames: int) -> bytes:
    samples = (round(16383.5 * math.sin(2 * math.pi * frequency_hz * frame / RATE)) for frame in range(frames))
    return b"".join(struct.pack("<h", sample) for sample in samples)


def differences(one: bytes, other: bytes) -> int:
    """Return how far two sounds are apart where they differ most."""
    pairs = zip(struct.unpack(f"<{len(one) // 2}h", one), struct.unpack(f"<{len(other) // 2}h", other), strict=True)
    return max(abs(a - b) for a, b in pairs)


def test_the_client_writes_the_tone_as_a_playable_file(run_script: Callable[..., Any], tmp_path: Path) -> None:
    done = run_script("audio_chunks/client.py", "tone.wav", "--seconds", "1.25", "--frequency", "330")

    assert done.returncode == 0, done.stderr
    assert "1.25 s of 330 Hz\n" in done.stdout
    with wave.open(str(tmp_path / "tone.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        assert file.getnframes() == 30_000
        # The last bit may fall to either side: the two formulas round at different places.
        assert differences(file.readframes(30_000), tone(330, 30_000)) <= 1


def test_the_audio_comes_in_chunks_of_bytes_on_a_channel_of_its_own(cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("make_tone", {"seconds": 0.25, "rate": RATE})
        events = [event for event in task.events() if event.kind == "workflow"]

    assert [(event.channel, type(event.data)) for event in events] == [(None, str), *[("audio", bytes)] * 3]
    assert [len(event.data) for event in events[1:]] == [4800, 4800, 2400]
