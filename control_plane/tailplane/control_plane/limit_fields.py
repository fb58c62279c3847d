"""The header fields that tell callers of their limits: `RateLimit-Policy` and `RateLimit`. No I/O.

As draft-ietf-httpapi-ratelimit-headers-11 has them. A limit is named after what it counts and whose it is:
`submits-tenant`, `submits-key`, `readers-tenant`, `readers-key`, `stored-tenant`; and `queue`, the workflow's.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tailplane.broker.usage import Left, Rate
from tailplane.protocol.errors import QueueFull, QuotaExceeded, RateLimited, TailplaneError, TooManyReaders

# What the fields' numbers may be at the most (RFC 9651 3.3.1).
_MOST = 10**15 - 1


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as it stands.

    Attributes:
        quota: how much there is of it.
        left: how much of that now.
        within: seconds in which no more than `left` can be used.
        window: seconds in which so much as `quota` comes anew; None: it does not come with time.
        unit: what it counts, as registered; None: requests.
    """

    name: str
    quota: int
    left: int
    within: float
    window: int | None = None
    unit: str | None = None


def window_of(rate: Rate) -> int:
    """Return in how many seconds, rounded up, as many submits come anew as may be made at once."""
    return max(1, math.ceil(rate.burst / rate.per_second))


def of_error(error: TailplaneError) -> dict[str, str]:
    """Return the fields of an error that tells of a limit; of any other none."""
    match error:
        case RateLimited():
            limit = Limit(f"submits-{error.of}", error.limit, 0, error.retry_after, math.ceil(error.window))
        case TooManyReaders():
            limit = Limit(f"readers-{error.of}", error.limit, 0, error.retry_after, None, "concurrent-requests")
        case QuotaExceeded():
            limit = Limit("stored-tenant", error.limit, 0, error.retry_after, None, "content-bytes")
        case QueueFull():
            limit = Limit("queue", error.limit, 0, error.retry_after)
        case _:
            return {}
    return fields([limit])


def of_submit(left: Iterable[Left]) -> dict[str, str]:
    """Return the fields of a submit that was taken, of a caller that has such limits; of any other none."""
    return fields(
        Limit(
            "submits-key" if each.rate.is_of_key else "submits-tenant",
            each.rate.burst,
            each.submits,
            each.until_all if each.submits else each.until_one,
            window_of(each.rate),
        )
        for each in left
    )


def fields(limits: Iterable[Limit]) -> dict[str, str]:
    """Return the two fields; none where there are no limits."""
    policies, now = [], []
    for limit in limits:
        window = f";w={min(max(1, limit.window), _MOST)}" if limit.window is not None else ""
        unit = f';qu="{limit.unit}"' if limit.unit else ""
        policies.append(f'"{limit.name}";q={min(limit.quota, _MOST)}{unit}{window}')
        now.append(f'"{limit.name}";r={min(limit.left, _MOST)};t={min(math.ceil(limit.within), _MOST)}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(now)} if policies else {}
