"""Keeps processes alive: says by name which one died, and starts it again, later each time it dies young.

Used by `dev` and `worker --processes`, which call `tick` in their loop. No clock and no output of its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

FIRST_DELAY = 0.5
"""Seconds before the first new start: a mistake that ends the process at once does not fill the terminal."""

LAST_DELAY = 30.0
"""Seconds between starts of what never lives long."""

LONG_LIFE = 10.0
"""Seconds of life after which earlier deaths are forgotten."""

HOPELESS = 2
"""The exit code of a process that would fail the same way again, such as a worker whose target can't be loaded."""


class Member(Protocol):
    """What can be watched: a `Child`, or the embedded server in its `Watched` form."""

    @property
    def name(self) -> str: ...

    @property
    def is_running(self) -> bool: ...

    @property
    def returncode(self) -> int | None: ...

    def start(self) -> None: ...


@dataclass(slots=True)
class _Watch:
    member: Member
    born: float
    deaths: int = 0
    due: float | None = None


class Supervisor:
    """Watches members that run already."""

    def __init__(self, members: Iterable[Member], say: Callable[[str, str], None], now: float) -> None:
        """Watch `members`; `say` takes a member's name and what happened to it; `now` in seconds of any clock."""
        self._watches = [_Watch(member, now) for member in members]
        self._say = say

    @property
    def hopeless(self) -> list[str]:
        """The names of dead members that are not started again until `renew`."""
        return [watch.member.name for watch in self._watches if watch.due == float("inf")]

    def tick(self, now: float) -> None:
        """Note who died, and start who is due. Call it several times a second."""
        for watch in self._watches:
            if watch.due is None:
                if not watch.member.is_running:
                    self._mourn(watch, now)
            elif now >= watch.due:
                self._start(watch, now)

    def renew(self, members: Iterable[Member], now: float) -> None:
        """Take note that the caller has just started these members anew: their past is forgotten."""
        renewed = list(members)
        for watch in self._watches:
            if watch.member in renewed:
                watch.born, watch.deaths, watch.due = now, 0, None

    def _mourn(self, watch: _Watch, now: float) -> None:
        watch.deaths = 1 if now - watch.born >= LONG_LIFE else watch.deaths + 1
        how = describe_exit(watch.member.returncode)
        if watch.member.returncode == HOPELESS:
            watch.due = float("inf")
            self._say(watch.member.name, f"{how}; starting it again would not help")
            return
        delay = restart_delay(watch.deaths)
        watch.due = now + delay
        self._say(watch.member.name, f"{how}; starting again in {delay:g} s")

    def _start(self, watch: _Watch, now: float) -> None:
        try:
            watch.member.start()
        except Exception as error:
            watch.deaths += 1
            delay = restart_delay(watch.deaths)
            watch.due = now + delay
            self._say(watch.member.name, f"could not be started ({error}); trying again in {delay:g} s")
            return
        watch.born, watch.due = now, None


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait after the nth death in a row."""
    return min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(deaths - 1, 16))


def describe_exit(returncode: int | None) -> str:
    """Return in words how a process ended."""
    if returncode is None:
        return "is gone"
    if returncode < 0:
        return f"was killed by signal {-returncode}"
    return f"ended with exit code {returncode}"
