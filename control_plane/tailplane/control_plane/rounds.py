"""Takes turns: of very many each round looks at some, and the next round at those behind them. No I/O."""

from bisect import bisect_right
from collections.abc import Sequence


class Rounds:
    """Where a look through names has come to; each control plane has its own, and all come by everything.

    Args:
        most: how many are looked at in one round.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._last = ""

    def take(self, names: Sequence[str]) -> list[str]:
        """Return the names whose turn it is: those behind the last ones, and then from the first one on.

        Args:
            names: all there are now, sorted.
        """
        begin = bisect_right(names, self._last)
        taken = [*names[begin:], *names[:begin]][: self._most]
        self._last = taken[-1] if taken else ""
        return taken
