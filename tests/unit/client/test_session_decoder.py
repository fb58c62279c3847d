from typing import Any

import pytest

from tailplane.client.endings import Garbage
from tailplane.client.place import Place
from tailplane.client.session_decoder import SessionDecoder
from tailplane.protocol import frames
from tailplane.protocol.session_cursor import SessionCursor

TASK = "t_01jd3z0v9m6s8k2x4q7w5e1r0t"


@pytest.mark.parametrize(
    "task", [[1, [TASK]], [1, ""], [0, TASK], [-1, TASK], [2**63, TASK], ["1", TASK], [True, TASK], [1]]
)
def test_a_task_that_is_none_does_not_get_into_the_cursor(task: list[Any]) -> None:
    place = Place(SessionCursor())
    decoder = SessionDecoder(place, 1000)

    decoder.feed(frames.encode_notice({"task": task}))

    assert isinstance(decoder.ending, Garbage)
    assert place.cursor == SessionCursor()
