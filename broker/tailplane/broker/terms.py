"""Terms: on which a task is claimed before others, or not at the same time as others. No I/O.

The record tells a task's terms to whoever looks at it; the queue keeps its own copy for as long as the task is in it,
since the record may be on another server, and a task that comes back has the terms that it had.
"""

from typing import NamedTuple

from tailplane.protocol.priorities import Priority


class Terms(NamedTuple):
    """A task's class, and the key of which only so many tasks run at once, over all workers and workflows.

    Attributes:
        concurrency_key: the tenant's own; None: it runs beside any others.
        concurrency_limit: how many tasks of the key may run at once. The newest task's counts for all of the key.
    """

    priority: Priority = Priority.NORMAL
    concurrency_key: str | None = None
    concurrency_limit: int = 1


PLAIN = Terms()
