import logging

import pytest

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
