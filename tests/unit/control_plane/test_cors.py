"""Origins are named one by one, and in the form that browsers send."""

import pytest
from pydantic import ValidationError

from tailplane.control_plane import Settings
from tailplane.control_plane.cors import parse_origins


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("https://app.example", {"https://app.example"}),
        ("https://App.Example:443, http://localhost:5173", {"https://app.example", "http://localhost:5173"}),
        ("http://app.example:80", {"http://app.example"}),
        ("http://app.example:443", {"http://app.example:443"}),
        ("http://[::1]:3000", {"http://[::1]:3000"}),
    ],
)
def test_origins_are_what_browsers_send(text: str, origins: set[str]) -> None:
    assert parse_origins(text) == origins
    assert Settings(cors_origins=text).origins == origins


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "app.example", "https://app.example/", "https://app.example/path", "https://*.example",
        "ftp://app.example", "https://user@app.example", "https://app.example:0", "https://", "https://a b",
        "https://app.example https://other.example",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        parse_origins(text)
    with pytest.raises(ValidationError):
        Settings(cors_origins=text)
