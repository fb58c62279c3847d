import subprocess
import sys

import orjson
import pytest

SCRIPT = """
import logging, structlog
from tailplane.broker.logs import configure_logging
configure_logging("info", {form!r})
structlog.get_logger("ours").info("task queued", task_id="t_1")
logging.getLogger("theirs").warning("from %s", "elsewhere")
structlog.get_logger("ours").debug("too quiet")
try:
    secret_input = "hunter2"
    raise ValueError("broken")
except ValueError:
    structlog.get_logger("ours").exception("failed")
"""


def run(form: str | None) -> str:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(form=form)], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("form", ["json", None])
def test_each_message_is_a_line_of_json_where_nobody_watches(form: str | None) -> None:
    ours, theirs, failed = (orjson.loads(line) for line in run(form).splitlines())

    assert (ours["event"], ours["task_id"], ours["level"], ours["logger"]) == ("task queued", "t_1", "info", "ours")
    assert (theirs["event"], theirs["logger"]) == ("from elsewhere", "theirs")
    assert "ValueError: broken" in failed["exception"]
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("form", ["console", "json"])
def test_variables_do_not_get_into_the_log(form: str) -> None:
    text = run(form)

    assert "ValueError: broken" in text
    assert "hunter2" not in text


FACTS = """
import asyncio, logging, structlog
from tailplane.broker.logs import Facts, configure_logging
configure_logging("info", "json", lambda logger, name, event: event | {"where": "here"})

async def main():
    with Facts(task_id="t_1"):
        with Facts(attempt=2):
            logging.getLogger("theirs").info("inner")
            await asyncio.to_thread(logging.getLogger("theirs").info, "in a thread")
        structlog.get_logger("ours").info("outer", task_id="t_2")
    logging.getLogger("theirs").info("outside")

asyncio.run(main())
"""


def test_a_line_bears_the_facts_of_the_blocks_around_it() -> None:
    done = subprocess.run([sys.executable, "-c", FACTS], capture_output=True, text=True, check=True, timeout=60)
    lines = {line["event"]: line for line in map(orjson.loads, done.stderr.splitlines())}

    assert {event: (line.get("task_id"), line.get("attempt")) for event, line in lines.items()} == {
        "inner": ("t_1", 2),
        "in a thread": ("t_1", 2),
        # What a line says itself counts.
        "outer": ("t_2", None),
        "outside": (None, None),
    }
    assert {line["where"] for line in lines.values()} == {"here"}


SECRETS = """
import asyncio, logging, structlog
from tailplane.broker.logs import configure_logging
configure_logging("info", {form!r})
key = "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_" + "S" * 43
token = "tps_" + "T" * 60 + "." + "U" * 43
ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
ours.info("signed in", authorization="Bearer " + key, api_key=key, password="hunter2", depth={{"secret": "hunter2"}})
ours.info("where", url="https://ada:hunter2@host/v1/tasks/t/events?token=" + token + "&from=1")
theirs.warning("headers %r of %s", {{"Authorization": "Bearer hunter2hunter2", "X": key}}, token)
theirs.warning("%d tasks of " + key, key)
theirs.warning("options password='hunter2' {{'secret': 'hunter2'}}")
ours.info("unharmed", tokens=3, key="a_key", cursor="tp", workflow="my_token_workflow")
try:
    raise ValueError(f"could not use {{key}} with token={{token!r}}")
except ValueError:
    ours.exception("failed")
    theirs.exception("failed")

async def main():
    asyncio.get_running_loop().call_exception_handler(
        {{"message": "in a callback of " + key, "exception": OSError("redis://:hunter2@host " + token)}}
    )
    asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0)

async def fail():
    raise RuntimeError("in a task of " + key)

asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_gets_into_the_log_whatever_way_it_takes(form: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SECRETS.format(form=form)], capture_output=True, text=True, check=True, timeout=60
    )

    for secret in ("hunter2", "S" * 20, "T" * 20, "U" * 20):
        assert secret not in result.stderr
    # It says that something was there; of a key, which one.
    assert "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_***" in result.stderr
    assert "from=1" in result.stderr
    assert "a line of the log can't be made: <class 'TypeError'>" in result.stderr
    if form == "json":
        lines = [orjson.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
        unharmed = next(line for line in lines if line["event"] == "unharmed")
        assert (unharmed["tokens"], unharmed["key"], unharmed["workflow"]) == (3, "a_key", "my_token_workflow")
        assert sum("Traceback" in line.get("exception", "") for line in lines) >= 3
