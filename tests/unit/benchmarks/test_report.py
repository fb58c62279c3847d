"""From rows of figures to a table with ratios."""

import pytest

from benchmarks.report import Figure, figures_of, markdown, ratio, shown
from benchmarks.results import Results, Row

LOAD = {
    "before": {"load_averages": [0.5, 0.0, 0.0], "steal_s": 1.0, "spin_ms": 20.0},
    "after": {"load_averages": [0.7, 0.0, 0.0], "steal_s": 1.5, "spin_ms": 24.0},
}
MACHINE = {
    "cores": 2,
    "cpu": "a processor",
    "memory_mb": 100,
    "kernel": "6",
    "python": "3.11.2",
    "packages": {"arq": "0.28"},
}


def results() -> Results:
    run = Results("1" * 32, "2026-01-01T00:00:00+00:00", MACHINE, is_quick=False)
    for repetition, (ours, theirs) in enumerate([(1.0, 4.0), (3.0, 5.0), (2.0, 9.0)]):
        run.rows.append(Row("W2", "tailplane", repetition, {"one task": {"p50_ms": ours, "events": 200}}, load=LOAD))
        run.rows.append(Row("W2", "by_hand", repetition, {"one task": {"p50_ms": theirs, "events": 200}}, load=LOAD))
    return run


def test_a_figure_is_the_median_with_its_spread():
    assert figures_of(results())["W2", "one task", "p50_ms"] == {
        "tailplane": Figure(2.0, 1.0, 3.0),
        "by_hand": Figure(5.0, 4.0, 9.0),
    }


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "times"),
    [
        ("p50_ms", 2.0, 5.0, 2.5),
        ("events_per_s", 300.0, 100.0, 3.0),
        ("lost", 0.0, 3.0, None),
        ("p50_ms", 0.0, 1.0, None),
    ],
)
def test_a_ratio_says_how_many_times_better_ours_is(name: str, ours: float, theirs: float, times: float | None):
    assert ratio(name, ours, theirs) == times


@pytest.mark.parametrize(("value", "text"), [(123456.7, "123,457"), (0.01234, "0.0123"), (7.0, "7"), (0.0, "0")])
def test_numbers_are_shown_with_the_digits_that_count(value: float, text: str):
    assert shown(value) == text


def test_the_table_has_both_systems_and_their_ratio():
    lines = markdown(results()).splitlines()

    assert "| case | figure | tailplane | by_hand | x |" in lines
    assert "| one task | p50_ms | 2 (1-3) | 5 (4-9) | 2.50 |" in lines


def test_the_head_tells_of_the_machine():
    text = markdown(results())

    assert "2 cores, a processor" in text
    assert "stolen by the host: 3.0 s" in text


def test_errors_and_notes_are_told():
    run = results()
    run.rows[0].notes.append("fewer events")
    run.rows[1].error = "the driver failed"

    text = markdown(run)

    assert "* tailplane, run 1: fewer events" in text
    assert "* by_hand, run 1: failed: the driver failed" in text
