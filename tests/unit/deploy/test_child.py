"""Children and the tether they hang on, with real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.cluster import stop_all
from tailplane.deploy.tether import TetheredProcess

pytestmark = pytest.mark.process

WAITS = "import sys, time; print('up', flush=True); time.sleep(60)"
IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@contextmanager
def running(code: str, name: str = "child") -> Iterator[tuple[Child, "SimpleQueue[str]"]]:
    lines: SimpleQueue[str] = SimpleQueue()
    child = Child(name, python(code), output=lambda _, line: lines.put(line))
    child.start()
    try:
        yield child, lines
    finally:
        child.kill()


def test_what_a_child_writes_reaches_the_sink_by_name_and_line() -> None:
    heard: SimpleQueue[tuple[str, str]] = SimpleQueue()
    code = "import sys; print('one'); print('two', file=sys.stderr); print('three', end='')"
    child = Child("worker-1", python(code), output=lambda name, line: heard.put((name, line)))
    child.start()
    assert child.wait(10) == 0
    assert {heard.get(timeout=10) for _ in range(3)} == {(child.name, line) for line in ("one", "two", "three")}


def test_a_childs_log_file_goes_on_over_a_restart(tmp_path: Path) -> None:
    child = Child("x", python("print('hello')"), output=tmp_path / "x.log")
    for _ in range(2):
        child.start()
        assert child.wait(10) == 0
    assert child.log_tail() == "hello\nhello"


def test_variables_and_directory_are_the_childs(tmp_path: Path) -> None:
    code = "import os; print(os.environ['SHOP'], os.getcwd())"
    child = Child("x", python(code), output=tmp_path / "log", env={"SHOP": "open"}, cwd=tmp_path)
    child.start()
    child.wait(10)
    assert child.log_tail() == f"open {tmp_path}"


def test_a_child_has_no_standard_input_to_wait_on() -> None:
    with running("print(repr(input()))") as (child, _):
        assert child.wait(10) == 1
        assert "EOFError" in child.log_tail()


def test_a_failure_shows_the_end_of_the_log() -> None:
    with running("print('the reason'); raise SystemExit(7)") as (child, _):
        child.wait(10)
        failure = child.failure("ended")
    assert failure.returncode == 7
    assert "the reason" in str(failure)
    assert "child ended" in str(failure)


def test_stop_sends_sigterm_first() -> None:
    with running(WAITS) as (child, lines):
        assert lines.get(timeout=10) == "up"
        child.stop(grace=10)
        assert child.returncode == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    with running(IGNORES_SIGTERM) as (child, lines):
        assert lines.get(timeout=10) == "up"
        child.stop(grace=0.1)
        assert child.returncode == -signal.SIGKILL


def test_hurry_cuts_the_grace_short() -> None:
    with running(IGNORES_SIGTERM) as (child, lines):
        assert lines.get(timeout=10) == "up"
        stop_all([child], grace=600, in_a_hurry=lambda: True)
        assert child.returncode == -signal.SIGKILL


def test_a_child_can_be_started_again() -> None:
    with running(WAITS) as (child, lines):
        assert lines.get(timeout=10) == "up"
        before = child.pid
        child.kill()
        assert not child.is_running
        child.start()
        assert lines.get(timeout=10) == "up"
        assert child.pid != before


def test_a_child_is_not_in_its_parents_session() -> None:
    with running(WAITS) as (child, lines):
        assert lines.get(timeout=10) == "up"
        assert child.pid is not None
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_a_child_gets_sigterm_when_its_parent_is_killed() -> None:
    # The grandchild says goodbye on a pipe that all three share; its end means that none of them lives.
    grandchild = (
        "import signal, sys, time\n"
        "def bye(*_): print('bye', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    parent = (
        "import sys, time; from tailplane.deploy.tether import TetheredProcess\n"
        f"child = TetheredProcess([sys.executable, '-c', {grandchild!r}]); time.sleep(60)"
    )
    with subprocess.Popen(python(parent), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
        assert process.stdout.read() == b"bye\n"


def test_a_child_outlives_the_thread_that_started_it() -> None:
    import threading

    started: SimpleQueue[TetheredProcess] = SimpleQueue()
    thread = threading.Thread(target=lambda: started.put(TetheredProcess(python(WAITS), output=subprocess.DEVNULL)))
    thread.start()
    thread.join()
    child = started.get()
    assert child.wait(0.3) is None
    assert child.kill() == -signal.SIGKILL


def test_an_exit_code_is_the_programs_own() -> None:
    assert TetheredProcess(python("raise SystemExit(3)")).wait(10) == 3


def test_our_own_commands_do_not_import_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise RuntimeError('a stranger was imported')")
    done = subprocess.run(tailplane_command("--help"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
