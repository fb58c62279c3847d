import pytest

from tailplane.control_plane.answers import prefers_msgpack


@pytest.mark.parametrize(
    ("accept", "msgpack"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", False),
        ("application/json", False),
        ("application/msgpack", True),
        ("Application/MsgPack; q=0.5", True),
        ("application/x-msgpack", True),
        ("application/vnd.msgpack", True),
        ("application/msgpack, application/json;q=0.5", True),
        ("application/json, application/msgpack;q=0.5", False),
        ("application/json, application/msgpack", False),
        ("application/msgpack, application/json", True),
        ("application/msgpack;q=0", False),
        ("application/msgpack;q=x", False),
        (",;,", False),
        # Read up to a bound: such a header takes a tenth of a second otherwise.
        ("," * 1000 + "application/msgpack", False),
        ("," * 40_000, False),
    ],
)
def test_json_unless_msgpack_is_preferred(accept: str, msgpack: bool) -> None:
    assert prefers_msgpack(accept) is msgpack
