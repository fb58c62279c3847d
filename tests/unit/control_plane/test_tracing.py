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


@pytest.mark.parametrize("state", ["vendor=1", "a=1,b=2", "a=1 , b=2", "1t@vendor=x y", "a*/-_b=" + "v" * 256])
def test_a_well_formed_tracestate_goes_along(state: str) -> None:
    assert trace_of({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT, "tracestate": state}


@pytest.mark.parametrize(
    "state", ["=", "a", "A=1", "a=b=c", "a=ä", ",".join(f"k{n}=1" for n in range(33)), "a=1,,b=2\n="]
)
def test_a_malformed_tracestate_is_left_out(state: str) -> None:
    assert trace_of({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT}
