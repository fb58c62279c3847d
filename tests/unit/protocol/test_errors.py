"""The tree of errors: each class has its code, and comes back from its problem document."""

import copy
import importlib
import pickle
import re
import traceback
from typing import Any

import pytest

from tailplane.protocol import errors
from tailplane.protocol.errors import (
    BY_CODE,
    PROBLEM_TYPE,
    InvalidInput,
    QueueFull,
    RequestError,
    StreamGap,
    TailplaneError,
    TaskFailed,
    TaskLost,
    TaskNotFound,
    Unavailable,
    from_problem,
)


def tree(root: type[TailplaneError]) -> list[type[TailplaneError]]:
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


CLASSES = [kind for kind in tree(TailplaneError) if kind.__module__ == errors.__name__]


def test_every_class_has_a_code_of_its_own() -> None:
    assert sorted(BY_CODE) == sorted(kind.code for kind in CLASSES)
    assert len(BY_CODE) == len(CLASSES)


def test_the_classes_of_all_parts_have_codes_of_their_own() -> None:
    for part in ("broker", "client", "control_plane", "deploy.errors", "workers"):
        importlib.import_module(f"tailplane.{part}")
    kinds = [kind for kind in tree(TailplaneError) if kind.__module__.startswith("tailplane.")]
    codes = [kind.code for kind in kinds if "code" in vars(kind)]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_title_and_an_error_status(kind: type[TailplaneError]) -> None:
    assert kind.title
    assert 400 <= kind.status < 600
    assert re.fullmatch(r"[a-z_]+", kind.code)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([|` -]*)([A-Z][A-Za-z]+)\b", line):
            drawn.append((len(match[1]) // 4, match[2]))

    def walk(root: type[TailplaneError], depth: int) -> list[tuple[int, str]]:
        children = [child for child in root.__subclasses__() if child in CLASSES]
        return [(depth, root.__name__), *(found for child in children for found in walk(child, depth + 1))]

    assert sorted(drawn) == sorted(walk(TailplaneError, 0))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_comes_back_from_its_problem_document(kind: type[TailplaneError]) -> None:
    document = kind("what went wrong").problem()
    assert document["type"] == PROBLEM_TYPE + kind.code
    assert (document["title"], document["status"], document["code"]) == (kind.title, kind.status, kind.code)
    back = from_problem(document)
    assert type(back) is kind
    assert back.detail == str(back.detail) == "what went wrong"


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_without_a_detail_says_its_title(kind: type[TailplaneError]) -> None:
    assert kind().detail == kind.title


def test_hint_and_facts_come_back() -> None:
    sent = InvalidInput("no", hint="send an int", errors=[{"loc": ["n"], "msg": "no int"}])
    back = from_problem(sent.problem())
    assert (back.hint, back.facts) == (sent.hint, sent.facts)


def test_a_plain_traceback_shows_the_hint() -> None:
    lines = traceback.format_exception_only(TaskLost("no", hint="stop"))
    assert lines[-1] == "hint: stop\n"
    assert len(traceback.format_exception_only(TaskLost("no"))) == 1


def test_an_error_without_a_hint_has_none_in_its_document() -> None:
    assert "hint" not in TaskNotFound().problem()


def test_when_to_try_again_comes_back() -> None:
    back = from_problem(Unavailable("busy", retry_after=2.5).problem())
    assert isinstance(back, Unavailable)
    assert back.retry_after == 2.5


def test_a_fact_is_in_the_document_as_it_was_told_and_its_default_is_not() -> None:
    refused = QueueFull("full", depth=9, workflow="echo")
    assert (refused.depth, refused.limit, refused.retry_after) == (9, 0, 1.0)
    refused.retry_after = 2.5
    document = refused.problem()
    assert (document["depth"], document["workflow"], document["retry_after"]) == (9, "echo", 2.5)
    assert "limit" not in document


def test_a_copy_has_facts_of_its_own() -> None:
    first = QueueFull("full", hint="wait", depth=9)
    second = copy.copy(first)
    second.retry_after = 2.5
    assert (first.retry_after, second.retry_after, second.depth, second.hint) == (1.0, 2.5, 9, "wait")
    assert (str(second), second.__notes__) == ("full", ["hint: wait"])
    assert pickle.loads(pickle.dumps(second)).problem() == second.problem()


def test_a_gap_comes_back_with_its_ends() -> None:
    back = from_problem(StreamGap("gap", last_seq=3, next_seq=7).problem())
    assert isinstance(back, StreamGap)
    assert (back.last_seq, back.next_seq) == (3, 7)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, RequestError), (418, RequestError), (429, Unavailable), (503, Unavailable), (500, TailplaneError)],
)
def test_an_unknown_code_gives_the_nearest_root(status: int, kind: type[TailplaneError]) -> None:
    assert type(from_problem({"code": "of_the_future", "status": status, "detail": "x"})) is kind


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"code": None, "status": "503", "detail": None},
        {"code": ["task_not_found"], "title": 5},
        {"code": "unavailable", "retry_after": "soon"},
        {"code": "task_not_found", "self": 1, "not an identifier": 2, "class": 3},
        {"code": "event_mismatch", "event": "x", "hint": 7},
        {"code": "stream_gap", "last_seq": "a"},
        {"code": "task_failed", "error_type": 1, "task_id": 2},
        {"code": "task_failed", "title": "", "message": ["x"]},
    ],
)
def test_a_malformed_document_gives_an_error_all_the_same(document: dict[str, Any]) -> None:
    back = from_problem(document)
    assert isinstance(back, TailplaneError)
    assert back.detail


def test_a_failed_task_shows_the_remote_traceback() -> None:
    error = TaskFailed(task_id="t_1", error_type="builtins.ValueError", message="no", remote_traceback="Traceback ...")
    assert error.detail == "builtins.ValueError: no"
    assert str(error) == "task t_1 failed: builtins.ValueError: no\n\nRemote traceback:\nTraceback ..."
    assert str(TaskFailed("timed out", task_id="t_1")) == "task t_1 failed: timed out"
