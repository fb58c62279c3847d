from tailplane.control_plane.rounds import Rounds
from tailplane.control_plane.scheduler import AT_ONCE, _pick


def test_each_has_its_turn_whoever_comes_and_goes() -> None:
    rounds, names = Rounds(3), list("abcdefg")
    assert [rounds.take(names) for _ in range(3)] == [list("abc"), list("def"), list("gab")]
    names.remove("b")
    names.insert(2, "bb")
    assert rounds.take(sorted(names)) == ["bb", "c", "d"]
    assert rounds.take([]) == []
    assert rounds.take(names) == names[:3]


def test_few_are_all_looked_at_each_time() -> None:
    rounds = Rounds(3)
    for _ in range(3):
        assert sorted(rounds.take(["a", "b"])) == ["a", "b"]


def test_a_tenant_with_very_many_due_schedules_holds_up_no_other_ones() -> None:
    due = [("many", str(n)) for n in range(1000)] + [("few", "1"), ("few", "2"), ("one", "1")]
    picked = _pick(due)
    assert len(picked) == len(set(picked)) == AT_ONCE
    assert {("few", "1"), ("few", "2"), ("one", "1")} <= set(picked)
    # Those of one tenant in any order.
    assert len({tuple(_pick(due)) for _ in range(5)}) > 1
    assert _pick([]) == []
