"""Several pieces of a workflow at once, each a branch of its own, so that its steps are told apart in every attempt."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from tailplane.workers.branches import Branch, running
from tailplane.workers.journal import Journal


async def gather(journal: Journal, pieces: Sequence[Awaitable[Any]], *, return_exceptions: bool) -> list[Any]:
    """Run pieces of a workflow at once and return their results, in the order of the pieces.

    The first that raises cancels the others, and what it raised is raised, unless `return_exceptions`.

    Raises:
        WorkflowChanged: an earlier attempt has done something else here.
    """
    try:
        call = journal.call("gather", f"gather {len(pieces)}")
    except BaseException:
        for piece in pieces:
            if isinstance(piece, Coroutine):
                piece.close()
        raise
    branches = [call.part(f".{number}/") for number in range(len(pieces))]
    call.branch.parts = branches
    tasks = [asyncio.ensure_future(_run(journal, *each)) for each in zip(pieces, branches, strict=True)]
    try:
        return await asyncio.gather(*tasks, return_exceptions=return_exceptions)
    finally:
        call.branch.parts = []
        journal.join(call.branch, branches)
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _run(journal: Journal, piece: Awaitable[Any], branch: Branch) -> Any:
    branch.owner = asyncio.current_task()
    journal.enter(branch)
    with running(branch):
        return await piece
