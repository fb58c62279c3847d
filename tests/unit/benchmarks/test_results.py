"""Files of results, and that those of several runs are not mixed."""

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.results import DifferentRuns, Results, Row, merge


def begun() -> Results:
    return Results.begin({"cores": 2}, is_quick=True)


def test_what_is_saved_is_loaded(tmp_path: Path):
    run = begun()
    run.rows.append(Row("W1", "tailplane", 0, {"first event": {"p50_ms": 2.0}}, ["a note"]))
    run.save(tmp_path / "run.json")

    assert Results.load(tmp_path / "run.json") == run


def test_two_runs_are_not_merged():
    with pytest.raises(DifferentRuns, match="not taken in one go"):
        merge([begun(), begun()])


def test_parts_of_one_run_are_merged():
    first = begun()
    second = Results(first.run_id, first.started_at, first.machine, is_quick=True, rows=[Row("W2", "by_hand", 0)])
    first.rows.append(Row("W1", "tailplane", 0))

    assert [row.workload for row in merge([first, second]).rows] == ["W1", "W2"]


def test_what_is_no_file_of_results_is_refused(tmp_path: Path):
    (tmp_path / "odd.json").write_text('{"rows": [], "cores": 2}')

    with pytest.raises(ValueError, match=r"odd\.json does not hold the results"):
        Results.load(tmp_path / "odd.json")


def test_a_report_over_two_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("a.json", "b.json"):
        begun().save(tmp_path / name)
    monkeypatch.setattr("sys.argv", ["benchmarks", "report", str(tmp_path)])
    # The command's own handler of SIGTERM must not stay with the tests.
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert main() == 2
    assert "not taken in one go" in capsys.readouterr().err
