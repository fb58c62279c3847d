import pytest

from tailplane.client.options import control_plane_url


def test_the_url_is_the_argument_then_the_environment_then_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAILPLANE_URL", raising=False)
    assert control_plane_url(None) == "http://127.0.0.1:8420"

    monkeypatch.setenv("TAILPLANE_URL", "https://tailplane.example/team/")
    assert control_plane_url(None) == "https://tailplane.example/team"
    assert control_plane_url("http://other:1/") == "http://other:1"
