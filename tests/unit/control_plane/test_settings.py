from datetime import timedelta

import pytest
from pydantic import ValidationError

from tailplane.control_plane import Settings
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id


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
        ("AUTH", "some"),
        ("ADMIN_KEY", "hunter2"),
        ("METRICS_TOKEN", "short"),
        ("METRICS_TOKEN", "with blanks in between"),
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


@pytest.mark.parametrize(
    ("host", "auth", "demands"),
    [
        ("127.0.0.1", "", False),
        ("localhost", "", False),
        ("::1", "", False),
        ("127.0.0.1", "keys", True),
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("10.0.0.1", "", True),
        ("tailplane.example", "", True),
        ("0.0.0.0", "none", False),
        ("", "", True),
    ],
)
def test_keys_are_demanded_where_others_reach_it_unless_it_is_told_so(
    monkeypatch: pytest.MonkeyPatch, host: str, auth: str, demands: bool
) -> None:
    monkeypatch.setenv("TAILPLANE_HOST", host)
    monkeypatch.setenv("TAILPLANE_AUTH", auth)
    assert Settings().demands_keys is demands


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    key, token = ApiKey.draw(new_key_id()), "a-token-for-metrics-only"
    monkeypatch.setenv("TAILPLANE_ADMIN_KEY", key.text)
    monkeypatch.setenv("TAILPLANE_METRICS_TOKEN", token)
    settings = Settings()
    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == key.text
    for shown in (repr(settings), str(settings), str(settings.model_dump())):
        assert key.secret not in shown
        assert token not in shown


def test_a_key_that_nobody_would_be_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPLANE_AUTH", "none")
    monkeypatch.setenv("TAILPLANE_ADMIN_KEY", ApiKey.draw(new_key_id()).text)
    with pytest.raises(ValidationError, match="TAILPLANE_AUTH=none"):
        Settings()
