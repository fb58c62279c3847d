import io

import pytest

from tailplane.deploy.line_log import LineLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_begin_with_the_name_in_equal_width() -> None:
    out = io.StringIO()
    log = LineLog(["control-plane", "worker-1"], out)
    log("worker-1", "hello")
    log("control-plane", "listening")
    log.note("tailplane", "stopped")
    assert out.getvalue() == "worker-1      | hello\ncontrol-plane | listening\ntailplane     > stopped\n"


def test_secrets_are_masked() -> None:
    out = io.StringIO()
    LineLog([], out)("x", "at redis://:pw@h")
    assert "pw" not in out.getvalue()


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    LineLog(["a"], out)("a", "x")
    assert out.getvalue().startswith("\x1b[")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    LineLog(["a"], plain)("a", "x")
    assert "\x1b" not in plain.getvalue()
