from datetime import timedelta

from tailplane.client.backoff import Backoff


def test_the_bound_doubles_up_to_the_cap_and_starts_again_after_a_reset() -> None:
    backoff = Backoff(timedelta(seconds=1), timedelta(seconds=5), draw=lambda: 1.0)

    assert [backoff.next_delay() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next_delay() == 1


def test_the_delay_is_drawn_from_zero_to_the_bound() -> None:
    draws = iter([0.0, 0.5, 1.0])
    backoff = Backoff(timedelta(seconds=1), timedelta(seconds=60), draw=lambda: next(draws))

    assert [backoff.next_delay() for _ in range(3)] == [0, 1, 4]


def test_ten_thousand_tries_overflow_nothing() -> None:
    backoff = Backoff(timedelta(seconds=1), timedelta(seconds=60), draw=lambda: 1.0)

    assert {backoff.next_delay() for _ in range(10_000)} == {1, 2, 4, 8, 16, 32, 60}
