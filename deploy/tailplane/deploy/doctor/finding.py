"""What one check found: the same shape for people and for programs."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was looked at.
        verdict: how it came out.
        detail: what was found.
        remedy: what to do about it; None if there is nothing to do.
    """

    check: str
    verdict: Verdict
    detail: str
    remedy: str | None = None
