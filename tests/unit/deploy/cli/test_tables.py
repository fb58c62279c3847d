import re

import pytest
from rich.console import Console

from tailplane.client import (
    ApiKeyInfo,
    ErrorInfo,
    KeyLimits,
    LimitsInfo,
    StepInfo,
    TaskStatus,
    WorkerInfo,
    WorkflowInfo,
)
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.tables import (
    print_keys,
    print_limits,
    print_steps,
    print_tasks,
    print_workers,
    print_workflows,
)
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import State

NAME = "summarise_all_the_quarterly_reports"
FOUND = [WorkflowInfo(name=NAME, version="2026.11.22-abcdef", description="Say it. " * 40 + "The end.\nNot shown.")]


def test_a_table_for_a_pipe_is_as_wide_as_it_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_workflows(FOUND, {NAME: 1})
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["workflow", "version", "workers", "description"]
    assert row.startswith(f"{NAME}  2026.11.22-abcdef  1 ")
    assert row.endswith("The end.")


@pytest.mark.parametrize("width", [120, 80, 30])
def test_on_a_terminal_names_stay_whole_and_descriptions_wrap(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        terminal, "console", lambda: Console(force_terminal=True, color_system=None, width=width, soft_wrap=True)
    )
    print_workflows(FOUND, {NAME: 1})
    lines = capsys.readouterr().out.splitlines()
    assert f"{NAME}  2026.11.22-abcdef  1" in lines[1]
    assert "end." in lines[-1]
    assert all(len(line.rstrip()) <= max(width, 90) for line in lines)


def test_the_workflows_of_a_worker_wrap_and_its_id_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    worker = WorkerInfo(worker_id="w_" + "0" * 26, started_at=0, workflows=[f"{NAME}_{n}" for n in range(5)])
    print_workers([worker], now=60)
    row = capsys.readouterr().out.splitlines()[1]
    assert row.startswith(worker.worker_id)
    assert row.rstrip().endswith(f"{NAME}_4")


def test_a_key_has_a_line_of_80_columns_and_its_tenant_where_there_are_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = ApiKeyInfo(
        key_id="k_" + "0" * 26, tenant="acme", name="billing", scopes=[Scope.READ, Scope.SUBMIT], created_at=1.8e9
    )
    print_keys([key], with_tenants=False)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["key", "name", "scopes", "created", "state"]
    assert row.split() == [key.key_id, "billing", "read,", "submit", "2027-01-15", "good"]
    assert len(row) <= 80
    print_keys([key], with_tenants=True)
    head, row = capsys.readouterr().out.splitlines()
    assert (head.split()[1], row.split()[1]) == ("tenant", "acme")


def test_limits_are_told_beside_what_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    found = LimitsInfo(
        tenant="acme",
        submits_per_second=2.5,
        max_queued=10,
        queued={"flow": 3},
        running=1,
        readers=4,
        max_readers=1000,
        stored_bytes=12_345_678,
        key_id="k_1",
        key=KeyLimits(submits_per_second=1, readers=2),
    )
    print_limits(found)
    head, *rows = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert head == ["tenant acme", "now", "at most"]
    assert rows == [
        ["submits per second", "2.5"],
        ["tasks that wait: flow", "3", "10"],
        ["tasks that run", "1", "any number"],
        ["streams that are read", "4", "1,000"],
        ["bytes that are stored", "12,345,678", "any number"],
        ["this key: submits per second", "1"],
        ["this key: streams that are read", "2", "any number"],
    ]


def test_a_task_s_time_is_that_of_its_last_attempt_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    task = TaskStatus(
        task_id="t_1", workflow="w", state=State.SUCCEEDED, attempt=2, created_at=10, started_at=50, ended_at=52
    )
    print_tasks([task], now=70)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("  ")[-1].strip() == "attempt took"
    assert row.split()[-6:] == ["2", "1", "min", "ago", "2.0", "s"]


def test_steps_say_how_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    error = ErrorInfo(code="workflow_error", type="E", message="no")
    steps = [
        StepInfo(id="0", name="a", started_at=0, ended_at=2, attempt=1, seqs=(3, 9)),
        StepInfo(id="1", name="b", started_at=2, attempt=2, error=error),
        StepInfo(id="2", name="c", kind="wait", started_at=4, attempt=2),
        StepInfo(id="3", name="d", kind="wait", started_at=4, ended_at=5, message=0, attempt=2),
        StepInfo(id="4", name="e", started_at=5, attempt=2),
        StepInfo(id="5", name="gather 2", kind="gather", started_at=6, attempt=2),
    ]
    print_steps(steps, until=10)
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[3] for row in rows[:5]] == ["finished", "failed", "waiting", "timed", "open"]
    assert rows[0].split()[-2:] == ["s", "3-9"]
    assert rows[4].split()[-2:] == ["5.0", "s"]
    # What was gathered is neither open nor ended, and has not lasted for any time: its parts have.
    assert rows[5].split()[2:] == ["gather", "2", "2", rows[5].split()[-1]]
