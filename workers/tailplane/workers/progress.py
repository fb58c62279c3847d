"""How far a task is, as an event. No I/O."""

import math
from typing import Any

from tailplane.protocol.events import PlatformType, pack_platform_event
from tailplane.workers.descriptions import cut

# Characters. It is shown in one line.
MAX_TEXT = 500


def pack_progress(done: float, total: float | None, text: str | None) -> bytes:
    """Return the packed `task.progress` that says so.

    Raises:
        ValueError, TypeError: `done` or `total` is no finite number of at most 64 bits.
    """
    facts: dict[str, Any] = {"done": _checked("done", done)}
    if total is not None:
        facts["total"] = _checked("total", total)
    if text is not None:
        facts["text"] = cut(str(text), MAX_TEXT)
    return pack_platform_event(PlatformType.PROGRESS, facts)


def _checked(name: str, number: float) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} is a number, not {number!r}")
    if not math.isfinite(number) or abs(number) >= 2**63:
        raise ValueError(f"{name} is a finite number, not {number!r}")
    return number
