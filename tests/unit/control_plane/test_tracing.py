import pytest

from tailplane.control_plane.tracing import trace_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_context_is_kept_as_it_came() -> None:
    assert trace_of({"traceparent": PARENT, "tracestate": "a=1,b=2"}) == {
        "traceparent": PARENT,
        "tracestate": "a=1,b=2",
    }


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        PARENT + "-more",
    ],
)
def test_without_a_wellformed_parent_there_is_no_context(parent: str) -> None:
    assert trace_of({"traceparent": parent, "tracestate": "a=1"}) == {}


def test_a_state_beyond_measure_is_dropped() -> None:
    assert trace_of({"traceparent": PARENT, "tracestate": "a=" + "1" * 511}) == {"traceparent": PARENT}
