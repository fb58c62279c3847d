"""Tells when Python files below some directories have changed; for the reload of `dev`."""

import threading
from collections.abc import Sequence
from pathlib import Path


class SourceWatch:
    """Watches in a thread of its own, from `start` to `stop`."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = [directory for directory in directories if directory.is_dir()]
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._changed: set[Path] = set()

    def start(self) -> None:
        """Begin; does nothing if there is nothing to watch."""
        if self.directories:
            threading.Thread(target=self._watch, name="source-watch", daemon=True).start()

    def stop(self) -> None:
        """End within a moment."""
        self._stopped.set()

    def take(self) -> set[Path]:
        """Return the files that changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def _watch(self) -> None:
        from watchfiles import PythonFilter, watch

        for changes in watch(
            *self.directories,
            watch_filter=PythonFilter(),
            debounce=300,
            stop_event=self._stopped,
            raise_interrupt=False,
        ):
            with self._lock:
                self._changed |= {Path(path) for _, path in changes}
