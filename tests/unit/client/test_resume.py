from datetime import timedelta

import pytest

from tailplane.client.endings import Ended, Ending, Garbage, Hinted, Hole, Lost
from tailplane.client.options import ReconnectPolicy
from tailplane.client.resume import ResumePlan
from tailplane.protocol.errors import ConnectionLost, StreamGap, StreamMalformed, TooManyReaders

POLICY = ReconnectPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=8), give_up_after=timedelta(seconds=60))
LOST = Lost(ConnectionResetError("reset"))


def plan(policy: ReconnectPolicy = POLICY) -> ResumePlan:
    return ResumePlan(policy, draw=lambda: 1.0)


def test_losses_back_off_and_any_sign_of_life_starts_again() -> None:
    resume = plan()

    assert [resume.delay(LOST, now=0) for _ in range(5)] == [1, 2, 4, 8, 8]
    resume.lived()
    assert resume.delay(LOST, now=0) == 1
    resume.moved()
    assert resume.delay(LOST, now=0) == 1


def test_retry_after_is_waited_for_and_the_jitter_comes_on_top() -> None:
    assert plan().delay(Lost(ConnectionError(), retry_after_s=7), now=0) == 8


def test_it_gives_up_after_the_time_without_progress() -> None:
    resume = plan()
    resume.delay(LOST, now=100)

    with pytest.raises(ConnectionLost, match="no progress for 60 s") as caught:
        resume.delay(LOST, now=159)
    assert caught.value.__cause__ is LOST.reason


def test_a_reader_too_many_is_told_so_and_not_that_a_connection_was_lost() -> None:
    resume, full = plan(), TooManyReaders("full", readers=4, limit=4)

    assert resume.delay(Lost(full, retry_after_s=2), now=0) == 3
    with pytest.raises(TooManyReaders) as caught:
        resume.delay(Lost(full, retry_after_s=2), now=59)
    assert caught.value is full


def test_progress_gives_it_the_whole_time_again() -> None:
    resume = plan()
    resume.delay(LOST, now=0)
    resume.lived()

    assert resume.delay(LOST, now=1000) == 1


def test_a_retry_after_past_the_last_moment_is_not_waited_for() -> None:
    with pytest.raises(ConnectionLost):
        plan().delay(Lost(ConnectionError(), retry_after_s=3600), now=0)


def test_it_never_gives_up_where_it_is_told_so() -> None:
    resume = plan(ReconnectPolicy(give_up_after=None))

    for hour in range(100):
        resume.delay(LOST, now=hour * 3600)


def test_a_hole_is_read_again_once() -> None:
    resume = plan()
    resume.delay(Hole(4, 7), now=0)

    with pytest.raises(StreamGap, match="event 7 follows event 4") as caught:
        resume.delay(Hole(4, 7), now=0)
    assert (caught.value.last_seq, caught.value.next_seq) == (4, 7)


def test_a_hole_that_lives_long_is_still_the_same_hole() -> None:
    resume = plan()
    resume.delay(Hole(4, 7), now=0)
    resume.lived()

    with pytest.raises(StreamGap):
        resume.delay(Hole(4, 7), now=0)


def test_a_new_event_makes_the_next_hole_another_one() -> None:
    resume = plan()
    resume.delay(Hole(4, 7), now=0)
    resume.moved()
    resume.delay(Hole(9, 11), now=0)


def test_garbage_is_read_again_twice() -> None:
    resume = plan()
    resume.delay(Garbage("x"), now=0)
    resume.delay(Garbage("x"), now=0)

    with pytest.raises(StreamMalformed, match="3 readings: x"):
        resume.delay(Garbage("x"), now=0)


@pytest.mark.parametrize(("draw", "delay"), [(0.0, 2.0), (1.0, 4.0)])
def test_a_hint_is_followed_with_jitter_and_does_not_count_as_a_failure(draw: float, delay: float) -> None:
    resume = ResumePlan(POLICY, draw=lambda: draw)

    assert resume.delay(Hinted(4000), now=0) == delay
    assert resume.delay(Hinted(4000), now=0) == delay


@pytest.mark.parametrize("ending", [Hinted(0), Hinted(-5)])
def test_a_hint_without_a_delay_does_not_make_a_tight_loop(ending: Ending) -> None:
    assert plan().delay(ending, now=0) == 1


def test_a_stream_that_ended_is_not_resumed() -> None:
    with pytest.raises(ValueError, match="not resumed"):
        plan().delay(Ended(), now=0)
