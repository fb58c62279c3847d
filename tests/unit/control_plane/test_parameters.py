import pytest
from starlette.requests import Request

from tailplane.control_plane.parameters import preferred_wait_of


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=10", 10),
        ("respond-async; wait=10", 10),
        ("wait=10, handling=lenient", 10),
        ("wait=0", 0),
        ("wait=61", 60),
        ("wait=999999999999", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=soon", 0),
        ("wait", 0),
        ("await=10", 0),
        ("", 0),
    ],
)
def test_the_preferred_wait(header: str, seconds: int) -> None:
    asked = Request({"type": "http", "headers": [(b"prefer", header.encode())]})

    assert preferred_wait_of(asked) == seconds


def test_without_the_header_nobody_waits() -> None:
    assert preferred_wait_of(Request({"type": "http", "headers": []})) == 0
