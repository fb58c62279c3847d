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
