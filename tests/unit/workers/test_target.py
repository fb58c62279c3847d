"""Where workflows are found."""

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tailplane.workers import TargetNotFound, load_target

Write = Callable[..., Path]


pytestmark = pytest.mark.usefixtures("clean_imports")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


DECORATED = """
    from tailplane.workers import workflow

    @workflow
    async def one(ctx): ...

    @workflow(name="second")
    def two(ctx, n: int): ...

    def helper(ctx): ...

    flows = [one, two]
    also_one = one
    _hidden = workflow(name="hidden")(helper)
    number = 5
    empty = []
"""
PLAIN = """
    from asyncio import sleep
    from os.path import join

    async def first(ctx, n: int): ...
    def second(ctx): ...
    def other(context): ...
    def _private(ctx): ...
    class Ctx: ...
    third = second
"""


def names(target: str) -> list[str]:
    return [workflow.name for workflow in load_target(target)]


def test_a_module_gives_every_workflow_in_it_once(write: Write) -> None:
    write("decorated_flows.py", DECORATED)
    assert names("decorated_flows") == ["one", "second"]


def test_a_module_in_a_package_is_found(write: Write) -> None:
    write("package_here/inner/flows.py", DECORATED)
    assert names("package_here.inner.flows") == ["one", "second"]


def test_a_file_gives_every_workflow_in_it(write: Write) -> None:
    path = write("some folder/flows-of-mine.py", DECORATED)
    assert names(str(path)) == names("some folder/flows-of-mine.py") == ["one", "second"]


def test_a_file_s_neighbours_can_be_imported(write: Write) -> None:
    write("apart/neighbour_module.py", "LIMIT = 3")
    write(
        "apart/flows.py",
        """
        from neighbour_module import LIMIT
        def flow(ctx, n: int = LIMIT): ...
        """,
    )
    assert names("apart/flows.py") == ["flow"]


def test_without_a_decorator_functions_that_take_a_ctx_are_workflows(write: Write) -> None:
    write("plain_flows.py", PLAIN)
    assert names("plain_flows") == ["first", "second"]


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        ("one", ["one"]),
        ("two", ["second"]),
        ("flows", ["one", "second"]),
        ("helper", ["helper"]),
        ("_hidden", ["hidden"]),
    ],
)
def test_an_attribute_is_a_workflow_a_function_or_a_list_of_them(
    write: Write, attribute: str, found: list[str]
) -> None:
    path = write("attribute_flows.py", DECORATED)
    assert names(f"attribute_flows:{attribute}") == found
    assert names(f"{path}:{attribute}") == found


def test_an_attribute_may_be_inside_another(write: Write) -> None:
    write("nested_flows.py", "class Team:\n    def flow(ctx): ...\n")
    assert names("nested_flows:Team.flow") == ["flow"]


def test_a_file_that_changed_is_read_again(write: Write) -> None:
    write("changing.py", "def before(ctx): ...")
    assert names("changing.py") == ["before"]
    write("changing.py", "def after(ctx): ...  # longer, so that no cached bytecode passes for it")
    assert names("changing.py") == ["after"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "is no module"),
        (":flow", "is no module"),
        (".relative", "is no module"),
        ("no_such_module", "there is no module no_such_module"),
        ("no_such.module.here", "there is no module no_such.module.here"),
        ("no_such_file.py", "there is no file .*no_such_file.py"),
        ("no/such/folder", "there is no file"),
        ("decorated_flows:missing", "decorated_flows has no missing"),
        ("decorated_flows:one.missing.deeper", "has no one.missing.deeper"),
        ("decorated_flows:", "decorated_flows has no"),
        ("decorated_flows:number", "is a int, not a workflow or a function"),
        ("decorated_flows:empty", "is empty"),
        ("decorated_flows.py:number", "is a int, not a workflow or a function"),
        ("without_flows", "has no workflows"),
        ("without_flows.py", "has no workflows"),
        (".", "is no module"),
        ("folder/", "there is no file"),
        ("text.txt/", "there is no file"),
        ("prog.txt", "^prog.txt is not a .py file"),
        ("prog.txt:first", "^prog.txt is not a .py file"),
        ("./prog.txt", "prog.txt is not a .py file"),
        ("script", "^script is not a .py file"),
    ],
)
def test_what_is_no_target_says_what_is_missing(write: Write, target: str, message: str) -> None:
    write("decorated_flows.py", DECORATED)
    write("without_flows.py", "x = 1")
    write("folder/file.txt", "")
    write("prog.txt", "")
    write("prog.py", "raise AssertionError('prog.txt was meant')")
    write("script", "")
    with pytest.raises(TargetNotFound, match=message):
        load_target(target)


def test_a_missing_attribute_is_told_with_those_that_there_are(write: Write) -> None:
    write("hinted_flows.py", PLAIN)
    with pytest.raises(TargetNotFound) as caught:
        load_target("hinted_flows:frist")
    assert "first" in (caught.value.hint or "")
    assert "_private" not in (caught.value.hint or "")


@pytest.mark.parametrize("target", ["raising_flows", "raising_flows.py"])
def test_what_a_module_raises_comes_out_as_it_is(write: Write, target: str) -> None:
    write("raising_flows.py", "raise RuntimeError('at import')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="at import"):
            load_target(target)
    assert "raising_flows" not in sys.modules


def test_a_module_that_the_target_misses_is_no_missing_target(write: Write) -> None:
    write("needy_flows.py", "import surely_not_installed")
    for target in ("needy_flows", "needy_flows.py"):
        with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
            load_target(target)


def test_a_signature_that_can_be_no_workflow_is_told_as_it_is(write: Write) -> None:
    write("bad_flows.py", "def flow(ctx, *rest): ...")
    with pytest.raises(TypeError, match="name its arguments"):
        load_target("bad_flows")
