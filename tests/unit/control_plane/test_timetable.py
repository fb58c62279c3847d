"""Due times: held against a crontab that is read anew here, minute by minute, and against what is known by heart."""

import zoneinfo
from datetime import UTC, datetime
from itertools import islice

import pytest

from tailplane.broker.schedules import ScheduleSpec
from tailplane.control_plane.timetable import Timetable, check_cron, find_zone
from tests.crontab import MINUTE, by_brute_force


def spec(**given: object) -> ScheduleSpec:
    plain: dict[str, object] = {
        "workflow": "echo", "input": b"\xc0", "metadata": {}, "cron": None, "every_ms": None, "run_at_ms": None,
        "time_zone": "UTC", "overlap": "allow", "catch_up": "latest", "misfire_grace_ms": 10_000,
        "start_at_ms": None, "end_at_ms": None,
    }  # fmt: skip
    return ScheduleSpec(**(plain | given))  # type: ignore[arg-type]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def due(after: str, count: int, **given: object) -> list[str]:
    found = islice(Timetable(spec(**given), since_ms=0).after(ms(after)), count)
    return [datetime.fromtimestamp(each / 1000, UTC).strftime("%m-%d %H:%M:%S") for each in found]


CRONS = [
    "*/5 * * * *", "0 * * * *", "30 2 * * *", "0,30 2 * * *", "15 1-3 * * *", "*/20 2 * * *", "59 23 * * 6,0",
    "0 0 1 * *", "7 3 29 3 *", "0 12 13 * 5", "10 */2 * * *", "1-59/2 2,3 * * 1-7",
]  # fmt: skip


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        ("UTC", "2026-03-28T22:00:00Z"),
        ("Europe/Berlin", "2026-03-28T22:00:00Z"),  # 2 to 3 is left out
        ("Europe/Berlin", "2026-10-24T22:00:00Z"),  # 2 to 3 comes twice
        ("America/New_York", "2026-03-08T04:00:00Z"),
        ("America/New_York", "2026-11-01T03:00:00Z"),
        ("Asia/Kathmandu", "2026-03-28T22:00:00Z"),  # 5:45 ahead
        ("Pacific/Apia", "2026-03-28T22:00:00Z"),
    ],
)
def test_cron_is_as_a_crontab_that_is_read_minute_by_minute(cron: str, zone: str, begin: str) -> None:
    first, last = ms(begin), ms(begin) + 48 * 60 * MINUTE
    expected = list(by_brute_force(cron, zone, first, last))
    timetable = Timetable(spec(cron=cron, time_zone=zone, end_at_ms=last), since_ms=0)
    assert list(timetable.after(first)) == expected
    # From wherever one looks, the next one is the same.
    for at in range(first, last, 53 * MINUTE + 123):
        assert timetable.next_after(at) == next((each for each in expected if each > at), None)


def test_a_fixed_time_that_the_clocks_leave_out_is_due_when_they_go_on() -> None:
    assert due("2026-03-28T12:00:00Z", 2, cron="30 2 * * *", time_zone="Europe/Berlin") == [
        "03-29 01:00:00", "03-30 00:30:00",
    ]  # fmt: skip


def test_two_fixed_times_that_the_clocks_leave_out_are_one() -> None:
    assert due("2026-03-29T00:00:00Z", 3, cron="15,45 2 * * *", time_zone="Europe/Berlin") == [
        "03-29 01:00:00", "03-30 00:15:00", "03-30 00:45:00",
    ]  # fmt: skip


def test_a_fixed_time_that_comes_twice_is_due_once() -> None:
    assert due("2026-10-24T12:00:00Z", 2, cron="30 2 * * *", time_zone="Europe/Berlin") == [
        "10-25 00:30:00", "10-26 01:30:00",
    ]  # fmt: skip
    # Also for who looks between the two.
    assert due("2026-10-25T01:10:00Z", 1, cron="30 2 * * *", time_zone="Europe/Berlin") == ["10-26 01:30:00"]


def test_what_follows_the_time_that_passes_is_due_in_both_hours_that_are_one() -> None:
    assert due("2026-10-25T00:10:00Z", 4, cron="*/30 2 * * *", time_zone="Europe/Berlin") == [
        "10-25 00:30:00", "10-25 01:00:00", "10-25 01:30:00", "10-26 01:00:00",
    ]  # fmt: skip


def test_named_expressions() -> None:
    assert due("2026-12-31T12:00:00Z", 1, cron="@yearly") == ["01-01 00:00:00"]
    assert due("2026-12-31T12:00:30Z", 2, cron="@Hourly") == ["12-31 13:00:00", "12-31 14:00:00"]


def test_an_interval_counts_from_when_it_was_put_or_from_its_beginning() -> None:
    put = ms("2026-01-01T00:00:00Z")
    assert list(islice(Timetable(spec(every_ms=1500), put).after(put), 2)) == [put + 1500, put + 3000]
    assert Timetable(spec(every_ms=1500), put).next_after(put + 1500) == put + 3000
    assert Timetable(spec(every_ms=1500), put).next_after(put - 99_999) == put + 1500
    later = Timetable(spec(every_ms=1500, start_at_ms=put + 500), put)
    assert list(islice(later.after(put - 5000), 2)) == [put + 500, put + 2000]
    assert later.next_after(put + 2000) == put + 3500


def test_nothing_is_due_outside_of_its_bounds() -> None:
    bounds = {"start_at_ms": ms("2026-01-01T10:00:00Z"), "end_at_ms": ms("2026-01-01T12:00:00Z")}
    assert due("2025-01-01T00:00:00Z", 9, cron="@hourly", **bounds) == [
        "01-01 10:00:00", "01-01 11:00:00", "01-01 12:00:00",
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_nothing_is_due_behind_the_year_9999(zone: str) -> None:
    last = ms("9999-12-31T23:59:59Z")
    for cron in ("0 12 1 1 *", "0 9 * * *"):
        assert Timetable(spec(cron=cron, time_zone=zone, start_at_ms=last), since_ms=0).next_after(0) is None


def test_a_single_time_is_due_once() -> None:
    at = ms("2026-01-01T10:00:00Z")
    timetable = Timetable(spec(run_at_ms=at), 0)
    assert (timetable.next_after(at - 1), timetable.next_after(at)) == (at, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has 0 fields instead of five"),
        ("* * * *", "it has 4 fields instead of five"),
        ("0 * * * * *", "it has 6 fields instead of five"),
        ("@reboot", "it has 1 fields instead of five (minute, hour, day, month, weekday), or @annually, @daily"),
        ("61 * * * *", "bad minute; minutes are 0 to 59"),
        ("* 24 * * *", "bad hour; hours are 0 to 23"),
        ("* * * * monday", "bad day-of-week; weekdays are 0 (Sunday) to 7, or SUN to SAT"),
        ("0 0 30 2 *", "bad day-of-month; days are 1 to 31"),
        ("*/0 * * * *", "bad minute; minutes are 0 to 59"),
    ],
)
def test_what_is_no_cron_expression_is_refused_and_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        check_cron(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "..", "/etc/passwd", "Europe", "\0", "x" * 5000])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        find_zone(name)


@pytest.mark.parametrize(
    "name", ["../" * 300 + "UTC", "." * 300, "a/" * 300, "", "\0", "Europe/../UTC", "/etc/localtime"]
)
def test_what_can_be_no_name_of_a_zone_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        find_zone(name)


def test_every_zone_there_is_is_found() -> None:
    names = zoneinfo.available_timezones()

    assert len(names) > 400
    assert {find_zone(name).key for name in names} == names
