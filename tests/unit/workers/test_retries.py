"""Which failures are worth another attempt, and when it comes."""

from datetime import timedelta

import pytest

from tailplane.protocol.errors import InvalidInput
from tailplane.workers import Retry
from tailplane.workers.retries import delay_before_retry
from tailplane.workers.workflow import Options


class Busy(Exception):
    """Something that passes."""


def test_the_delay_doubles_up_to_a_minute_and_is_drawn_from_its_upper_half() -> None:
    options = Options(retries=100, retry_delay=timedelta(seconds=2))
    for failures, bound in [(0, 2), (1, 4), (4, 32), (5, 60), (99, 60)]:
        drawn = {delay_before_retry(options, failures, ValueError()) for _ in range(50)}
        assert all(delay is not None and bound / 2 <= delay.total_seconds() <= bound for delay in drawn)
        assert len(drawn) > 10


def test_the_last_attempt_gets_no_other() -> None:
    assert delay_before_retry(Options(retries=2), 1, ValueError()) is not None
    assert delay_before_retry(Options(retries=2), 2, ValueError()) is None
    assert delay_before_retry(Options(), 0, ValueError()) is None


@pytest.mark.parametrize(
    ("error", "again"),
    [(Busy(), True), (TimeoutError(), True), (ValueError(), False), (InvalidInput("no"), False), (Retry(), True)],
)
def test_only_what_the_author_names_is_tried_again(error: Exception, again: bool) -> None:
    options = Options(retries=1, retry_on=(Busy, TimeoutError))
    assert (delay_before_retry(options, 0, error) is not None) is again


def test_a_retry_after_what_is_no_time_is_refused_in_the_workflow() -> None:
    with pytest.raises(TypeError, match="after must be a timedelta, or a number of seconds, not '30s'"):
        Retry(after="30s")  # type: ignore[arg-type]


def test_what_ends_a_process_is_not_tried_again() -> None:
    assert delay_before_retry(Options(retries=1), 0, SystemExit(1)) is None


@pytest.mark.parametrize(("after", "delay"), [(7, 7), (0.5, 0.5), (timedelta(hours=2), 7200), (-3, 0)])
def test_a_workflow_can_say_when(after: timedelta | float, delay: float) -> None:
    assert delay_before_retry(Options(retries=1), 0, Retry("busy", after=after)) == timedelta(seconds=delay)
