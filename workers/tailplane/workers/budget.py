"""The memory that all attempts of a worker process share for events that Redis has not taken yet."""

import threading

# Bytes by which a share grows.
_GRANT = 256 * 1024


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


class Share:
    """What one attempt may hold: `own` bytes by itself, and beyond them what the budget grants. For one thread at a
    time.
    """

    def __init__(self, budget: Budget, own: int) -> None:
        self.budget = budget
        self._own = self._allowed = own

    def takes(self, size: int) -> bool:
        """Whether it may hold so many bytes; the budget is asked where it has to."""
        if size <= self._allowed:
            return True
        wanted = -(-(size - self._allowed) // _GRANT) * _GRANT
        if not self.budget.take(wanted):
            return False
        self._allowed += wanted
        return True

    def give_back(self) -> None:
        """Give the budget back what it has granted."""
        if self._allowed > self._own:
            self.budget.give_back(self._allowed - self._own)
            self._allowed = self._own
