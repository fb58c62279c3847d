"""The table of a task's life: every trigger in every state."""

from pathlib import Path

import pytest

from tailplane.protocol.states import (
    TERMINAL,
    TRANSITIONS,
    State,
    TransitionRefused,
    Trigger,
    diagram,
    encode_moves,
    move,
)

ARCHITECTURE = Path(__file__).resolve().parents[3] / "ARCHITECTURE.md"

# Written out a second time on purpose: a change of the table is a change of what the parts promise each other.
ALLOWED = {
    ("begin", "queued"): "running",
    ("begin", "waiting"): "running",
    ("take_over", "running"): "running",
    ("retry", "running"): "queued",
    ("hand_back", "running"): "queued",
    ("wait", "running"): "waiting",
    ("succeed", "running"): "succeeded",
    ("fail", "running"): "failed",
    ("fail", "queued"): "failed",
    ("fail", "waiting"): "failed",
    ("cancel", "queued"): "cancelled",
    ("cancel", "running"): "cancelled",
    ("cancel", "waiting"): "cancelled",
    ("expire", "queued"): "expired",
    ("expire", "waiting"): "expired",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_a_trigger_moves_a_state_as_the_table_says_or_is_refused(trigger: Trigger, state: State) -> None:
    target = ALLOWED.get((trigger.value, state.value))
    if target is not None:
        assert move(trigger, state) is State(target)
        return
    with pytest.raises(TransitionRefused) as caught:
        move(trigger, state)
    assert (caught.value.trigger, caught.value.state) == (trigger, state)
    assert str(caught.value) == f"a task that is {state.value} does not take {trigger.value}"


def test_terminal_are_the_states_that_nothing_leaves() -> None:
    assert {"succeeded", "failed", "cancelled", "expired"} == TERMINAL
    assert [state for state in State if state.is_terminal] == [state for state in State if state in TERMINAL]


def test_every_state_but_the_first_can_be_reached() -> None:
    reached = {target for moves in TRANSITIONS.values() for target in moves.values()}
    assert reached == set(State)


def test_every_trigger_does_something() -> None:
    assert [trigger for trigger in Trigger if not TRANSITIONS[trigger]] == []


def test_the_table_can_not_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[Trigger.WAIT] = {}  # type: ignore[index]


def test_moves_are_encoded_as_the_scripts_read_them() -> None:
    assert encode_moves(Trigger.BEGIN) == "queued=running;waiting=running;"
    assert encode_moves(Trigger.RETRY, Trigger.EXPIRE) == "running=queued;queued=expired;waiting=expired;"


def test_the_diagram_in_the_architecture_is_the_one_that_the_table_prints() -> None:
    assert f"```mermaid\n{diagram()}\n```" in ARCHITECTURE.read_text()
