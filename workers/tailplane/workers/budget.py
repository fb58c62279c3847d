"""The memory that all attempts of a worker process share for events that Redis has not taken yet."""

import threading


class Budget:
    """So many bytes; thread-safe."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` bytes; False, and nothing taken, if there are fewer."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Give back bytes that were taken."""
        with self._lock:
            self._left += size
