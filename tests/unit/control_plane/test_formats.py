import pytest

from tailplane.control_plane.formats import FRAMES, NDJSON, SSE, Format, choose_format


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", SSE),
        ("*/*", SSE),
        ("text/event-stream", SSE),
        ("TEXT/EVENT-STREAM;q=0.5", SSE),
        ("text/*", SSE),
        ("application/x-ndjson", NDJSON),
        ("application/*", NDJSON),
        ("application/vnd.tailplane.frames+msgpack", FRAMES),
        ("text/event-stream;q=0.1, application/x-ndjson;q=0.9", NDJSON),
        ("text/event-stream;q=0, */*", NDJSON),
        ("text/event-stream;q=0, application/x-ndjson;q=0, */*;q=0.1", FRAMES),
        ("text/html, application/xhtml+xml, */*;q=0.8", SSE),
        ("image/png", None),
        ("text/event-stream;q=0", None),
        ("text/event-stream;q=nonsense", None),
        (",,;;", None),
    ],
)
def test_the_format_liked_best_is_chosen(accept: str, chosen: Format | None) -> None:
    assert choose_format(accept) is chosen
