"""A control plane whose clock is a file: what it holds, as ms since the epoch. Its settings are the environment's."""

import os
from pathlib import Path

from tailplane.broker.logs import configure_logging
from tailplane.control_plane import Settings, create_app
from tailplane.control_plane.server import Server


class FileClock:
    """Tells the time that a file holds; whoever sets it puts another file in its place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def now_ms(self) -> int:
        return int(self._path.read_text())


def set_clock(path: Path, ms: int) -> None:
    """Let it be a time, in ms since the epoch, for all who go by the clock of this file."""
    # Another file in its place: nobody reads half a time.
    there = path.with_suffix(".new")
    there.write_text(str(ms))
    there.replace(path)


if __name__ == "__main__":
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    Server(create_app(settings, FileClock(Path(os.environ["CLOCK_FILE"]))), settings).run()
