"""Several pieces of a workflow at once, each a branch of its own, so that its steps are told apart in every attempt."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from tailplane.protocol.errors import TaskLost, WorkflowChanged
from tailplane.protocol.events import PlatformType
from tailplane.workers.branches import Branch, running
from tailplane.workers.journal import Journal
from tailplane.workers.values import pack_error, restore_error


async def gather(journal: Journal, pieces: Sequence[Awaitable[Any]], *, return_exceptions: bool) -> list[Any]:
    """Run pieces of a workflow at once and return their results, in the order of the pieces.

    The first that raises cancels the others, and what it raised is raised, unless `return_exceptions`. If the code goes
    on behind that, a later attempt gets it from here again.

    Raises:
        WorkflowChanged: an earlier attempt has done something else here.
    """
    try:
        call = journal.call("gather", f"gather {len(pieces)}")
        if failure := journal.failure_of(call):
            raise restore_error(failure)
    except BaseException:
        for piece in pieces:
            if isinstance(piece, Coroutine):
                piece.close()
        raise
    branches = [call.part(f".{number}/") for number in range(len(pieces))]
    for branch in branches:
        branch.is_over = call.branch.is_replayed
    call.branch.parts = branches
    tasks = [asyncio.ensure_future(_run(journal, *each)) for each in zip(pieces, branches, strict=True)]
    try:
        try:
            results = await asyncio.gather(*tasks, return_exceptions=return_exceptions)
        finally:
            left = [task for task in tasks if not task.done()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            call.branch.parts = []
            # From here on the gathering branch goes on, and what it does next lets all of this stand.
            journal.join(call.branch, branches)
    except Exception as error:
        if not isinstance(error, TaskLost | WorkflowChanged):
            journal.note_failure(call, pack_error(error))
        raise
    if call.record.error is not None:
        # An earlier attempt's, which a later one would be told else.
        await journal.finish(call, PlatformType.STEP_FINISHED)
    return results


async def _run(journal: Journal, piece: Awaitable[Any], branch: Branch) -> Any:
    branch.owner = asyncio.current_task()
    journal.enter(branch)
    with running(branch):
        return await piece
