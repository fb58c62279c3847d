"""Moves: scripts that take a task from one place of the queue to another, whatever queues its key has tasks of.

A script names all its keys (`scripts/shared/terms.lua`), and a task that leaves a concurrency key lets another one in,
whose queue its caller can't know. The script says then which it lacks, and has done nothing.
"""

from collections.abc import Sequence
from typing import Any

from tailplane.broker.keys import Keys
from tailplane.broker.scripts import Script
from tailplane.broker.store import Store


async def move(
    store: Store, keys: Keys, script: Script, names: Sequence[str], args: Sequence[Any], queues: Sequence[str]
) -> int:
    """Run a script that moves tasks, with all the queues that it turns out to need; return what it returns.

    Args:
        names: its keys between those of the terms and those of the queues.
        args: its arguments before the queues' names.
        queues: those that are known to be needed.
    Raises:
        StoreUnavailable: as `Store.run`.
    """
    (reply,) = await move_many(store, keys, script, names, [(args, queues)])
    return reply


async def move_many(
    store: Store,
    keys: Keys,
    script: Script,
    names: Sequence[str],
    calls: Sequence[tuple[Sequence[Any], Sequence[str]]],
) -> list[int]:
    """Do as `move` for each of these arguments and queues, in one round trip where none lacks any.

    Raises:
        StoreUnavailable: as `Store.run`; some of the calls may have been carried out.
    """
    done: dict[int, int] = {}
    needed = [dict.fromkeys(queues) for _, queues in calls]
    # More than twice only where another queue gets a task of the key in between.
    while left := [at for at in range(len(calls)) if at not in done]:
        replies = await script.run_many(store, [_call(keys, names, calls[at][0], list(needed[at])) for at in left])
        for at, reply in zip(left, replies, strict=True):
            if isinstance(reply, int):
                done[at] = reply
            else:
                needed[at] |= dict.fromkeys(name.decode() for name in reply)
    return [done[at] for at in range(len(calls))]


def _call(keys: Keys, names: Sequence[str], args: Sequence[Any], queues: Sequence[str]) -> tuple[list[str], list[Any]]:
    sets = [key for queue in queues for key in keys.queue_of(queue)]
    return [*keys.of_terms, *names, *sets], [*args, *queues]
