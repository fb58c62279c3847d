from datetime import timedelta

import pytest
from pydantic import ValidationError

from tailplane.control_plane import Settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.5", 0.5), ("500ms", 0.5), ("5s", 5), ("10 m", 600), ("24h", 86400), ("7d", 604800), ("PT5S", 5)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("TAILPLANE_KEEP_ALIVE", text)

    assert Settings().keep_alive == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KEEP_ALIVE", "soon"),
        ("KEEP_ALIVE", "0"),
        ("KEEP_ALIVE", "-5"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("PREFIX", "a:b"),
        ("PORT", "70000"),
        ("LOG_LEVEL", "loud"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_QUEUED", "0"),
    ],
)
def test_a_setting_that_can_not_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"TAILPLANE_{name}", text)

    with pytest.raises(ValidationError):
        Settings()


def test_the_password_in_the_url_is_not_shown() -> None:
    assert "secret" not in repr(Settings(redis_url="redis://:secret@127.0.0.1"))


@pytest.mark.parametrize(
    "url", ["redis+sentinel://:secret@sentinel", "redis://:sec/secret@host:6379", "https://:secret@host"]
)
def test_nor_is_that_of_a_url_that_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPLANE_REDIS_URL", url)

    with pytest.raises(ValidationError) as refused:
        Settings()

    assert "secret" not in str(refused.value)


def test_settings_do_not_change() -> None:
    settings = Settings()

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
