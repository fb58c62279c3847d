"""What a checker knows of the code of those who write workflows."""

from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[3]

WORKFLOW = """
from typing import Any, assert_type

from tailplane.workers import Context, step, workflow


async def read(number: int) -> str: return ""
def read_in_a_thread(number: int) -> bytes: return b""
@step
async def bare(number: int) -> str: return ""
@step(retries=1)
async def with_options(number: int) -> str: return ""
@step
def sync(number: int) -> str: return ""
class Reader:
    @step
    async def read(self, number: int) -> str: return ""


@workflow(timeout=3, total_timeout=0.5, start_within=60, retry_delay=1)
async def flow(ctx: Context) -> None:
    assert_type(await ctx.step(read, 1), str)
    assert_type(await ctx.step(read_in_a_thread, 1, retries=2), bytes)
    assert_type(await ctx.step(bare, 1, name="one"), str)
    assert_type(await bare(1), str)
    assert_type(await with_options(1), str)
    assert_type(await sync(1), Any)
    assert_type(await Reader().read(1), str)
    await bare("1")  # type: ignore[arg-type]
    bare(1)  # type: ignore[unused-coroutine]
"""


def test_seconds_are_times_and_a_step_s_result_has_the_type_of_its_function_s(tmp_path: Path) -> None:
    module = tmp_path / "typed.py"
    module.write_text(WORKFLOW)
    # With the cache that `make lint` leaves: a second instead of ten.
    kept = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    out, err, code = api.run([*kept, str(module)])
    assert code == 0, out + err
