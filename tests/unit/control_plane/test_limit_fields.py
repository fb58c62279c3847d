"""The header fields of limits, as draft-ietf-httpapi-ratelimit-headers-11 has them."""

import pytest

from tailplane.broker.usage import Left, Rate
from tailplane.control_plane import limit_fields
from tailplane.protocol.errors import (
    QueueFull,
    QuotaExceeded,
    RateLimited,
    StoreUnavailable,
    TailplaneError,
    TooManyReaders,
)


@pytest.mark.parametrize(
    ("error", "policy", "now"),
    [
        (RateLimited(limit=5, window=1.0, of="key", retry_after=0.2), '"submits-key";q=5;w=1', '"submits-key";r=0;t=1'),
        (RateLimited(limit=1, window=2.5, retry_after=2.1), '"submits-tenant";q=1;w=3', '"submits-tenant";r=0;t=3'),
        (
            TooManyReaders(readers=9, limit=8, of="tenant", retry_after=1.5),
            '"readers-tenant";q=8;qu="concurrent-requests"',
            '"readers-tenant";r=0;t=2',
        ),
        (
            QuotaExceeded(stored=9, limit=8, retry_after=60),
            '"stored-tenant";q=8;qu="content-bytes"',
            '"stored-tenant";r=0;t=60',
        ),
        (QueueFull(depth=9, limit=8, retry_after=3.0), '"queue";q=8', '"queue";r=0;t=3'),
    ],
)
def test_an_error_that_tells_of_a_limit_has_both(error: TailplaneError, policy: str, now: str) -> None:
    assert limit_fields.of_error(error) == {"RateLimit-Policy": policy, "RateLimit": now}


def test_other_errors_have_none() -> None:
    assert limit_fields.of_error(StoreUnavailable()) == {}


def test_a_submit_has_those_of_each_of_its_rates() -> None:
    left = [Left(Rate("acme", 7.9), 6, 0.13, 0), Left(Rate("k_1", 0.25, is_of_key=True), 0, 4.0, 4.0)]
    assert limit_fields.of_submit(left) == {
        "RateLimit-Policy": '"submits-tenant";q=7;w=1, "submits-key";q=1;w=4',
        "RateLimit": '"submits-tenant";r=6;t=1, "submits-key";r=0;t=4',
    }


def test_numbers_stay_in_what_a_field_can_hold() -> None:
    assert limit_fields.fields([limit_fields.Limit("n", 10**20, 10**20, 1e30)])["RateLimit"].startswith('"n";r=9')
