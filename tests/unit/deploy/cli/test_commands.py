"""The commands against a real cluster, each as a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import SyncClient, TaskFailed
from tailplane.deploy.cli.app import run
from tailplane.deploy.cluster import LocalCluster, Plan

pytestmark = [pytest.mark.process, pytest.mark.slow]

Tailplane = Callable[..., "subprocess.CompletedProcess[str]"]


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_prints_the_tasks_id_and_ends(tailplane: Tailplane) -> None:
    done = tailplane("run", "greet", '"you"')
    assert done.returncode == 0
    assert re.fullmatch(r"t_[0-9a-z]{26}\n", done.stdout)
    assert f"tailplane tail {done.stdout.strip()}" in done.stderr


def test_run_follow_shows_events_with_their_delay_and_then_the_result(tailplane: Tailplane) -> None:
    done = tailplane("run", "greet", '"you"', "--follow")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r" +3 +-?[\d.,]+ ms  hello you", lines[2])
    assert re.fullmatch(r' +4 +-?[\d.,]+ ms  \[facts\] {"name": "you", "raw": "<1 bytes>"}', lines[3])
    assert lines[-1] == '"greeted you"'
    assert "succeeded" in done.stderr


def test_run_follow_json_is_one_envelope_a_line_and_nothing_else(tailplane: Tailplane) -> None:
    done = tailplane("run", "greet", "-f", "--json")
    assert done.returncode == 0
    events = lines_of(done.stdout)
    assert [event["seq"] for event in events] == list(range(1, 6))
    assert [event.get("type") for event in events] == ["task.queued", "task.started", None, None, "task.succeeded"]
    assert events[3]["data"] == {"name": "world", "raw": {"$bytes": "AA=="}}
    assert events[-1]["data"] == {"result": "greeted world"}
    assert done.stderr == ""


def test_tail_session_shows_all_its_tasks_to_the_end(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        with client.start_session() as session:
            tasks = [session.run_workflow("greet", name) for name in ("Ada", "Bob")]
        done = tailplane("tail", "--session", session.session_id)
        as_json = tailplane("tail", "--session", session.session_id, "--json")
        with client.start_session() as other:
            other.run_workflow("fail", "on purpose")
        failed = tailplane("tail", "--session", other.session_id)
    assert done.returncode == 0, done.stderr
    for task, name in zip(tasks, ("Ada", "Bob"), strict=True):
        assert re.search(rf"greet {task.task_id[-6:]}  hello {name}", done.stdout)
        assert [each["seq"] for each in lines_of(as_json.stdout) if each["task_id"] == task.task_id] == [1, 2, 3, 4, 5]
    assert f"{session.session_id} has ended" in done.stderr
    assert failed.returncode == 1


def test_run_session_adds_a_task_to_it(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client, client.start_session() as session:
        done = tailplane("run", "greet", "--session", session.session_id, "--json")
        task_id = json.loads(done.stdout)["task_id"]
        assert client.task(task_id).status().session_id == session.session_id
    closed = tailplane("run", "greet", "--session", session.session_id)
    assert (closed.returncode, "Traceback" in closed.stderr) == (1, False)
    assert session.session_id in closed.stderr


def test_a_session_is_opened_used_and_closed_from_the_command_line(tailplane: Tailplane, cluster: LocalCluster) -> None:
    opened = tailplane("sessions", "open", "--label", "user=7")
    session_id = opened.stdout.strip()
    task_id = tailplane("run", "greet", "--session", session_id).stdout.strip()
    closed = tailplane("sessions", "close", session_id, "--json")
    again = tailplane("run", "greet", "--session", session_id)
    with SyncClient(cluster.url) as client:
        assert client.session(session_id).metadata == {"user": "7"}
        assert client.task(task_id).status().session_id == session_id
    assert f"tailplane run WORKFLOW --session {session_id}" in opened.stderr
    shown = json.loads(closed.stdout)
    assert (shown["session_id"], shown["closed"], shown["metadata"]) == (session_id, True, {"user": "7"})
    assert again.returncode == 1


def test_state_shows_and_sets_what_the_tasks_of_a_session_share(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client, client.start_session() as session:
        assert session.state.set("plan", {"step": 1}) == 1
        shown = tailplane("state", session.session_id)
        made = tailplane("state", session.session_id, "plan", "2", "--version", "1", "--json")
        refused = tailplane("state", session.session_id, "plan", "3", "--version", "1")
        assert session.state.update("plan", lambda value: value + 1).value == 3
    assert shown.stdout == 'plan  {"step": 1}  (version 1)\n'
    assert json.loads(made.stdout) == {"state": {"plan": {"value": 2, "version": 2}}}
    assert (refused.returncode, refused.stderr) == (1, "error: plan has version 2, and not 1\n")


@pytest.mark.parametrize("arguments", [[], ["t_00000000000000000000000000", "--session", "s_0"]])
def test_tail_takes_a_task_or_a_session(tailplane: Tailplane, arguments: list[str]) -> None:
    done = tailplane("tail", *arguments)
    assert done.returncode == 2
    assert "one of the two" in done.stderr


def test_run_json_is_one_document(tailplane: Tailplane) -> None:
    done = tailplane("run", "greet", "--json")
    assert json.loads(done.stdout)["workflow"] == "greet"


def test_run_says_on_which_terms(tailplane: Tailplane) -> None:
    terms = ("--priority", "high", "--concurrency-key", "desk", "--concurrency-limit", "2")
    assert tailplane("run", "greet", *terms, "-f").returncode == 0
    (task, *_) = json.loads(tailplane("ps", "--all", "--json").stdout)["tasks"]
    assert (task["priority"], task["concurrency_key"], task["concurrency_limit"]) == ("high", "desk", 2)
    assert tailplane("run", "greet", "--priority", "urgent").returncode == 2


def test_the_input_can_come_from_a_file_or_standard_input(tailplane: Tailplane) -> None:
    done = tailplane("run", "greet", "-f", "--input-file", "-", stdin='"stdin"')
    assert done.stdout.endswith('"greeted stdin"\n')


def test_a_failed_task_is_exit_code_1_with_the_remote_traceback(tailplane: Tailplane) -> None:
    done = tailplane("run", "fail", '"the reason"', "--follow")
    assert done.returncode == 1
    assert "about to fail" in done.stdout
    assert "ValueError: the reason" in done.stderr
    assert "flows.py" in done.stderr
    assert "tailplane/client" not in done.stderr
    as_json = tailplane("run", "fail", '"x"', "--follow", "--json")
    assert as_json.returncode == 1
    assert lines_of(as_json.stdout)[-1]["data"]["error"]["type"] == "builtins.ValueError"


def test_a_failed_task_is_shown_with_what_it_failed_with(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("fail", "the reason")
        with pytest.raises(TaskFailed):
            task.result(timeout=30)
    shown = tailplane("tasks", "show", task.task_id)
    assert shown.stdout.splitlines()[-1] == "workflow_error: the reason"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no_such_workflow"], "no_such_workflow"),
        (["run", "count", '"many"'], "count"),
        (["tail", "t_00000000000000000000000000"], "t_00000000000000000000000000"),
        (["cancel", "t_00000000000000000000000000"], "t_00000000000000000000000000"),
        (["tail", "nonsense"], "nonsense"),
    ],
)
def test_what_the_control_plane_refuses_is_one_error(tailplane: Tailplane, arguments: list[str], words: str) -> None:
    done = tailplane(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_workflow_is_told_with_the_command_that_lists_them(tailplane: Tailplane) -> None:
    said = tailplane("run", "no_such_workflow").stderr
    assert "hint:  `tailplane workflows` lists those there are" in said
    assert "GET" not in said


def test_a_task_that_no_worker_can_start_is_told_why(flows: Path) -> None:
    with LocalCluster(Plan(target=str(flows))) as own:
        own.workers[0].stop(10)
        with subprocess.Popen(
            [sys.executable, "-m", "tailplane.deploy", "run", "greet", "--follow", "--json"],
            env=os.environ | {"TAILPLANE_URL": own.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as following:
            assert following.stderr is not None
            assert following.stderr.readline() == "no living worker serves greet: the task waits for one\n"
            own.restart_worker()
            out, rest = following.communicate(timeout=60)
    assert (following.returncode, rest) == (0, "")
    assert lines_of(out)[-1]["type"] == "task.succeeded"


def test_tail_begins_where_it_is_told(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("count", 5)
        task.result()
    for start, seqs in (("start", range(1, 9)), ("5", range(6, 9)), ("-2", range(7, 9)), ("0", range(1, 9))):
        done = tailplane("tail", task.task_id, "--from", start, "--json")
        assert done.returncode == 0, done.stderr
        assert [event["seq"] for event in lines_of(done.stdout)] == list(seqs)
    assert tailplane("tail", task.task_id, "--from", "yesterday").returncode == 1


def test_cancel_ends_a_task_and_its_tail(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("sleep")
        assert next(iter(client.get_task_result_stream(task.task_id))) == "asleep"
    done = tailplane("cancel", task.task_id, "--reason", "enough")
    assert (done.returncode, done.stdout) == (0, f"{task.task_id} is cancelled\n")
    tail = tailplane("tail", task.task_id)
    assert tail.returncode == 1
    assert "was cancelled" in tail.stderr
    assert "task.cancelled enough" in tail.stdout


def test_a_message_is_sent_and_a_task_s_steps_are_shown(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("ask")
        assert any(event.type == "task.waiting" for event in task.events())
        other = tailplane("send", task.task_id, '"yes"', "--type", "anser")
        assert (other.returncode, other.stdout) == (0, f"message 1 is in the inbox of {task.task_id}\n")
        assert "the task waits for answer, and this is 'anser' (--type)" in other.stderr
        done = tailplane("send", task.task_id, '"yes"', "--type", "answer", "--key", "k")
        assert done.returncode == 0
        assert (done.stdout, done.stderr) == (f"message 2 is in the inbox of {task.task_id}\n", "")
        assert task.result(timeout=30) == "yes"
    again = tailplane("send", task.task_id, '"yes"', "--type", "answer", "--key", "k", "--json")
    assert json.loads(again.stdout) == {"task_id": task.task_id, "number": 2}
    late = tailplane("send", task.task_id)
    assert (late.returncode, "has succeeded" in late.stderr) == (1, True)
    shown = tailplane("tasks", "show", task.task_id)
    assert shown.returncode == 0, shown.stderr
    task_head, task_row, head, think, answer = [line.split() for line in shown.stdout.splitlines() if line.strip()]
    assert (task_head[0], task_row[0]) == ("task", task.task_id)
    assert head == ["id", "kind", "step", "state", "attempt", "began", "took", "events"]
    assert (think[:5], answer[:5]) == (
        ["0", "step", "think", "finished", "1"],
        ["1", "wait", "answer", "finished", "1"],
    )
    as_json = json.loads(tailplane("tasks", "show", task.task_id, "--json").stdout)
    assert (as_json["state"], [step["name"] for step in as_json["steps"]]) == ("succeeded", ["think", "answer"])


def test_a_task_that_has_ended_is_not_cancelled(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("greet")
        task.result()
    done = tailplane("cancel", task.task_id)
    assert done.returncode == 1
    assert "succeeded" in done.stderr


def test_ps_shows_what_has_not_ended_and_all_on_demand(tailplane: Tailplane, cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        ended = client.run_workflow("greet")
        ended.result()
        running = client.run_workflow("sleep")
        assert next(iter(client.get_task_result_stream(running.task_id))) == "asleep"

        def shown(*arguments: str) -> dict[str, str]:
            document = json.loads(tailplane("ps", "--json", *arguments).stdout)
            return {task["task_id"]: task["state"] for task in document["tasks"]}

        assert running.task_id in shown()
        assert ended.task_id not in shown()
        assert shown("--all").items() >= {ended.task_id: "succeeded", running.task_id: "running"}.items()
        assert set(shown("--state", "succeeded").values()) == {"succeeded"}
        assert shown("--workflow", "sleep").keys() >= {running.task_id}
        assert len(shown("--all", "--limit", "1")) == 1
        table = tailplane("ps", "--all").stdout
        assert re.search(rf"^{running.task_id} +sleep +running ", table, re.MULTILINE)
        running.cancel()


def test_workflows_and_workers_are_listed(tailplane: Tailplane, cluster: LocalCluster) -> None:
    names = [each["name"] for each in json.loads(tailplane("workflows", "--json").stdout)["workflows"]]
    assert set(names) == {"greet", "count", "fail", "ask", "sleep"}
    assert re.search(r"^greet +\S+ +1 +Greet somebody\.$", tailplane("workflows").stdout, re.MULTILINE)
    (worker,) = json.loads(tailplane("workers", "--json").stdout)["workers"]
    assert worker["pid"] == cluster.workers[0].pid
    assert worker["worker_id"] in tailplane("workers").stdout


def test_limits_are_shown(tailplane: Tailplane, cluster: LocalCluster) -> None:
    told = json.loads(tailplane("limits", "--json").stdout)
    assert (told["tenant"], told["max_queued"], "submits_per_second" in told) == ("default", 100_000, False)
    assert re.search(r"^tenant default +now +at most *$", tailplane("limits").stdout, re.MULTILINE)


def test_schedules_are_created_listed_triggered_and_deleted(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILPLANE_URL", cluster.url)

    def said(*arguments: str) -> str:
        assert run(["schedules", *arguments]) == 0
        return capsys.readouterr().out

    created = said(
        "create", "nightly", "greet", '"night"', "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin", "--json"
    )
    assert json.loads(created).items() >= {"name": "nightly", "cron": "0 3 * * *", "overlap": "allow"}.items()
    assert "at 2099-12-31 " in said("create", "once", "greet", "--at", "2099-12-31T12:00:00")
    assert "every 0:05:00" in said("create", "often", "greet", "--every", "5m", "--overlap", "skip")
    assert [each["name"] for each in json.loads(said("--json"))["schedules"]] == ["nightly", "often", "once"]
    assert re.search(r"^nightly +greet +0 3 \* \* \* Europe/Berlin +20\S+ \S+ +0 +0 +0 *$", said(), re.MULTILINE)
    assert json.loads(said("show", "often"))["every_ms"] == 300_000
    assert re.search(r"^often .* paused ", said("pause", "often"), re.MULTILINE)
    assert "paused" not in said("resume", "often")
    task_id = said("trigger", "nightly").strip()
    with SyncClient(cluster.url) as client:
        assert client.task(task_id).result(timeout=30) == "greeted night"
        assert [task.task_id for task in client.tasks(schedule="nightly")] == [task_id]
    assert run(["ps", "--all", "--schedule", "nightly", "--json"]) == 0
    assert [task["task_id"] for task in json.loads(capsys.readouterr().out)["tasks"]] == [task_id]
    for name in ("nightly", "once", "often"):
        assert said("delete", name) == f"{name} is deleted\n"
    assert run(["schedules", "delete", "nightly"]) == 1
    assert "there is no schedule 'nightly'" in capsys.readouterr().err
    assert run(["schedules", "create", "x", "greet", "--cron", "61 * * * *"]) == 1
    assert "bad minute" in capsys.readouterr().err


def test_a_task_that_is_put_off_says_when_it_is_due(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILPLANE_URL", cluster.url)
    assert run(["run", "greet", "--delay", "1h"]) == 0
    task_id = capsys.readouterr().out.strip()
    with SyncClient(cluster.url) as client:
        status = client.task(task_id).status()
        assert (status.state, round((status.due_at or 0) - status.created_at)) == ("queued", 3600)
        client.task(task_id).cancel()
    assert run(["run", "greet", "--at", "2020-01-01T00:00:00Z", "--follow"]) == 0
    assert "greeted world" in capsys.readouterr().out


def test_doctor_finds_a_running_cluster_healthy(tailplane: Tailplane) -> None:
    done = tailplane("doctor", "--json")
    assert done.returncode == 0, done.stdout
    verdicts = {finding["check"]: finding["verdict"] for finding in json.loads(done.stdout)["findings"]}
    assert verdicts.items() >= {"control plane": "ok", "workers": "ok", "workflows": "ok", "redis": "ok"}.items()
    assert "0 failures" in tailplane("doctor").stdout


def test_ctrl_c_while_following_detaches_and_says_how_to_go_on(cluster: LocalCluster) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tailplane.deploy", "run", "sleep", "--follow"],
        env=os.environ | {"TAILPLANE_URL": cluster.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert any("asleep" in line for line in following.stdout)
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=30)
    assert following.returncode == 130
    match = re.search(r"tailplane tail (t_\w+)", said)
    assert match
    assert "Traceback" not in said
    with SyncClient(cluster.url) as client:
        task = client.task(match[1])
        assert task.status().state == "running"
        task.cancel()


def test_a_reader_that_goes_away_is_no_error(cluster: LocalCluster) -> None:
    code = f"{sys.executable} -m tailplane.deploy run count 5000 -f --json | head -n 1"
    done = subprocess.run(
        code, shell=True, env=os.environ | {"TAILPLANE_URL": cluster.url}, capture_output=True, text=True, check=False
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
