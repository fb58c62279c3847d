import logging

import pytest

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.live import LiveView, LossNotice
from tailplane.protocol.events import Event, Kind


def record(module: str) -> logging.LogRecord:
    return logging.LogRecord("tailplane.client", logging.DEBUG, f"/x/{module}.py", 1, "again", (), None)


def test_a_lost_connection_is_told_once_until_something_arrives() -> None:
    said: list[str] = []
    notice = LossNotice(said.append)
    notice.emit(record("transport"))
    assert said == []
    notice.emit(record("reader"))
    notice.emit(record("reader"))
    assert len(said) == 1
    notice.mended()
    notice.emit(record("reader"))
    assert len(said) == 2


def test_the_past_is_shown_with_its_time_and_the_present_with_its_delay(capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    with view:
        view.show(Event(1, 1, view.began - 3600, "old"), view.began)
        view.show(Event(2, 1, view.began + 1, "new [bold]"), view.began + 1.0015)
        view.show(Event(3, 1, view.began + 1, {"result": None}, "task.succeeded", kind=Kind.PLATFORM), view.began + 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("  old")
    assert " ms" not in lines[0]
    assert lines[1] == "     2      1.5 ms  new [bold]"
    assert lines[2].endswith("1,000 ms  task.succeeded")


def test_a_task_s_lines_bear_its_label(capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView(has_labels=True)
    with view:
        view.show(Event(1, 1, view.began + 1, "of one"), view.began + 1.0015, "count 5e1r0t")
        view.show(Event(1, 1, view.began + 1, "of the other"), view.began + 1.0015, "count 5e1r0v")
        for number in range(30):
            view.show(Event(1, 1, view.began + 1, "x"), view.began + 1, f"count {number}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["     1      1.5 ms  count 5e1r0t  of one", "     1      1.5 ms  count 5e1r0v  of the other"]
    assert len(lines) == 32


def progress(view: LiveView, seq: int, **facts: object) -> Event:
    return Event(seq, 1, view.began + 1, facts, "task.progress", kind=Kind.PLATFORM)


def test_progress_is_a_plain_line_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    with view:
        view.show(progress(view, 1, done=3, total=10, text="pages"), view.began + 1)
        view.show(progress(view, 2, done=0.5), view.began + 1)
    assert [line.split("ms  ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "task.progress 3 of 10: pages",
        "task.progress 0.5",
    ]


def test_progress_is_a_bar_on_a_terminal_and_begins_anew_after_a_rewind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda _: True)
    view = LiveView()
    view.show(progress(view, 1, done=3, total=10, text="pages\x1b[2J"), view.began + 1)
    (bar,) = view._bar.tasks
    assert (bar.completed, bar.total, bar.description) == (3, 10, "pages\\x1b[2J")
    rewind = Event(2, 2, view.began + 1, {"to": 0, "reason": "failed"}, "task.rewind", kind=Kind.PLATFORM)
    view.show(rewind, view.began + 1)
    (bar,) = view._bar.tasks
    assert (bar.completed, bar.total) == (0, None)
    view.show(progress(view, 3, done=1), view.began + 1)
    (bar,) = view._bar.tasks
    assert (bar.completed, bar.total) == (1, None)


def test_each_task_of_a_session_has_a_bar_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda _: True)
    view = LiveView(has_labels=True)
    for label in ("one", "other"):
        view.show(progress(view, 1, done=1, total=2), view.began + 1, label)
    assert len(view._bar.tasks) == 2
    view.show(Event(2, 1, view.began + 1, {}, "task.succeeded", kind=Kind.PLATFORM), view.began + 1, "one")
    assert len(view._bar.tasks) == 1
