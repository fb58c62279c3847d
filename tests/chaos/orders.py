"""Which tasks a run submits, and how each is followed: all of it follows from the seed. No I/O."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tests.chaos.script import Script

# How a task is looked at beside the reader of its whole stream.
View = Literal["snapshots", "collect", "text", "notice", "drop"]
VIEWS: tuple[View, ...] = get_args(View)

# How many of a hundred tasks run which workflow.
_SHARES = {"quick": 30, "slow": 15, "fallible": 15, "threaded": 15, "generated": 15, "once": 10}
WORKFLOWS = frozenset(_SHARES)
_CANCELLED = 0.12
# Whose the tasks are, in turn. The first one is there in any deployment.
TENANTS = ("default", "ada", "bob")


@dataclass(frozen=True, slots=True)
class Order:
    """One task that is to be run.

    Attributes:
        index: its place among the orders, from 0.
        tenant: on whose behalf it is submitted.
        key: its idempotency key, which other tenants' orders have, too.
        workflow: the name of one of `workflows`.
        script: its input.
        view: how it is looked at beside the reader of its whole stream.
        view_after: seconds from the submit to the beginning of that look.
        cancel_after: seconds from the submit to its cancellation; None: it is not cancelled.
    """

    index: int
    workflow: str
    script: Script
    view: View
    view_after: float = 0.0
    cancel_after: float | None = None
    tenant: str = TENANTS[0]
    key: str = ""

    def result(self, attempt: int) -> object:
        """Return the result of the task, where this attempt succeeds."""
        return None if self.workflow == "generated" else self.script.result(attempt)


def orders(seed: int, count: int, tenants: Sequence[str] = TENANTS[:1]) -> list[Order]:
    """Return the orders of a run. More of them begin with the same ones."""
    return [_order(seed, index, tenants) for index in range(count)]


def _order(seed: int, index: int, tenants: Sequence[str]) -> Order:
    draw = random.Random(f"order {seed} {index}")
    workflow = draw.choices(list(_SHARES), list(_SHARES.values()))[0]
    return Order(
        index=index,
        workflow=workflow,
        script=_script(workflow, draw),
        view=draw.choice(VIEWS),
        view_after=draw.choice((0.0, draw.uniform(0, 8))),
        cancel_after=draw.uniform(0, 6) if draw.random() < _CANCELLED else None,
        tenant=tenants[index % len(tenants)],
        key=f"{seed}-{index // len(tenants)}",
    )


def _script(workflow: str, draw: random.Random) -> Script:
    seed, as_text = draw.randrange(2**32), draw.random() < 0.5
    match workflow:
        case "quick":
            return Script(seed=seed, count=draw.randrange(200, 1200), pause=0.01, burst=10, as_text=as_text)
        case "slow":
            seconds, count = draw.uniform(10, 20), draw.randrange(80, 160)
            return Script(seed=seed, count=count, pause=seconds / count, as_text=as_text)
        case "fallible":
            failures = draw.randrange(1, 4)
            return Script(seed=seed, count=60, pause=0.01, failures=failures, as_text=as_text)
        case _:
            return Script(seed=seed, count=draw.randrange(40, 120), pause=draw.uniform(0.01, 0.04), as_text=as_text)
