"""Ids: their form, their order, and what is none."""

import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import ids
from tailplane.protocol.errors import InvalidId
from tailplane.protocol.ids import (
    EntryId,
    check_schedule_name,
    check_tenant,
    check_workflow_name,
    new_session_id,
    new_task_id,
    new_worker_id,
    parse_session_id,
    parse_task_id,
    parse_worker_id,
    task_id_at,
)

Maker = Callable[[], str]
Parser = Callable[[str], str]

KINDS = [
    pytest.param("t", new_task_id, parse_task_id, id="task"),
    pytest.param("s", new_session_id, parse_session_id, id="session"),
    pytest.param("w", new_worker_id, parse_worker_id, id="worker"),
]


@pytest.mark.parametrize(("prefix", "new", "parse"), KINDS)
def test_a_new_id_has_its_prefix_and_26_characters_and_parses(prefix: str, new: Maker, parse: Parser) -> None:
    made = new()
    assert made.startswith(f"{prefix}_")
    assert len(made) == 28
    assert parse(made) == made


@pytest.mark.parametrize(("prefix", "new", "parse"), KINDS)
def test_an_id_of_another_kind_is_refused(prefix: str, new: Maker, parse: Parser) -> None:
    for other in "tsw".replace(prefix, ""):
        with pytest.raises(InvalidId):
            parse(other + new()[1:])


def test_ids_of_the_same_millisecond_differ() -> None:
    assert len({new_task_id() for _ in range(10_000)}) == 10_000


def test_ids_sort_by_the_time_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.001, 1.0, 1_700_000_000.0, 1_700_000_000.001, 1_700_000_000.002, 4_000_000_000.0, 2**47 / 1000]
    made = []
    for moment in times:
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        made.append([new_task_id() for _ in range(20)])
    for earlier, later in itertools.pairwise(made):
        assert max(earlier) < min(later)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t_",
        "nonsense",
        "t_01jd3z0v9m6s8k2x4q7w5e1r0",
        "t_01jd3z0v9m6s8k2x4q7w5e1r0tt",
        "t_01JD3Z0V9M6S8K2X4Q7W5E1R0T",
        "t_01jd3z0v9m6s8k2x4q7w5e1r0i",
        "t_01jd3z0v9m6s8k2x4q7w5e1r0t\n",
        " t_01jd3z0v9m6s8k2x4q7w5e1r0t",
        "t-01jd3z0v9m6s8k2x4q7w5e1r0t",
        "t_01jd3z0v9m6s8k2x4q7w5e1r0\N{ARABIC-INDIC DIGIT ONE}",
        "t_{01jd3z0v9m6s8k2x4q7w5e1r}",
    ],
)
def test_what_has_not_the_form_of_an_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidId, match="is not a task id"):
        parse_task_id(text)


@pytest.mark.parametrize(("prefix", "new", "parse"), KINDS)
def test_the_refusal_shows_an_id_that_would_do(prefix: str, new: Maker, parse: Parser) -> None:
    with pytest.raises(InvalidId) as caught:
        parse("x")
    assert parse(caught.value.detail.rpartition(" ")[2]).startswith(prefix)


def test_the_refusal_of_a_long_text_shows_only_its_beginning() -> None:
    with pytest.raises(InvalidId) as caught:
        parse_task_id("x" * 10_000)
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize("name", ["a", "default", "team-7", "0", "a" * 40, "a--b"])
def test_a_tenant_is_of_lower_case_letters_digits_and_inner_hyphens(name: str) -> None:
    assert check_tenant(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a:b", "{a}", "a" * 41, "a\n", "ä", "a b", "a/b"])
def test_what_can_be_no_tenant_is_refused(name: str) -> None:
    with pytest.raises(InvalidId, match="is not a tenant"):
        check_tenant(name)


@pytest.mark.parametrize("name", ["f", "_private", "my_workflow", "team.flows.Summarise-2", "a" * 128])
def test_a_workflow_is_named_like_a_python_object(name: str) -> None:
    assert check_workflow_name(name) == name


@pytest.mark.parametrize("name", ["", "1st", "-a", ".a", "a b", "a:b", "a{b}", "a" * 129, "a\n", "é", "<lambda>"])
def test_what_can_be_no_workflow_is_refused(name: str) -> None:
    with pytest.raises(InvalidId, match="is not a workflow name"):
        check_workflow_name(name)


counts = st.integers(min_value=0, max_value=ids.MAX_SEQ)


@given(counts, counts)
def test_an_entry_id_is_read_back_as_it_was_printed(fence: int, seq: int) -> None:
    entry = EntryId(fence, seq)
    assert EntryId.parse(str(entry)) == EntryId.parse(str(entry).encode()) == entry


@given(counts, counts, counts, counts)
def test_entry_ids_order_as_redis_orders_them(fence: int, seq: int, other_fence: int, other_seq: int) -> None:
    smaller = EntryId(fence, seq) < EntryId(other_fence, other_seq)
    assert smaller == (fence < other_fence or (fence == other_fence and seq < other_seq))


def test_a_task_id_at_a_time_is_always_the_same_and_no_other_s() -> None:
    made = [task_id_at(ms, *names) for ms in (0, 1, 2**48 - 1) for names in (("a", "b"), ("a", "c"), ("ab",))]
    assert made == [task_id_at(ms, *names) for ms in (0, 1, 2**48 - 1) for names in (("a", "b"), ("a", "c"), ("ab",))]
    assert len(set(made)) == 9
    assert [each[:12] for each in made] == sorted(each[:12] for each in made)
    assert all(parse_task_id(each) == each for each in made)


@pytest.mark.parametrize("name", ["a", "7", "_", "nightly", "a.b-c_D", "x" * 128])
def test_a_schedule_s_name_is_taken(name: str) -> None:
    assert check_schedule_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".", "a b", "a:b", "{queue}", "ä", "a\n", "x" * 129])
def test_what_would_break_a_key_is_no_schedule_s_name(name: str) -> None:
    with pytest.raises(InvalidId, match="is not a schedule name"):
        check_schedule_name(name)
