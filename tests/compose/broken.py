"""Workflows that can't be imported."""

from tailplane.workers import Context

LIMIT = 1 / 0


async def never(ctx: Context) -> None:
    """Be never there."""
