"""The worker's settings: what does not fit together is refused."""

import pytest
from pydantic import ValidationError

from tailplane.workers.settings import Settings


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"LEASE": "3s", "RENEW_EVERY": "3s"}, "renew_every must be less than lease"),
        ({"TASK_BUFFER_BYTES": "1048576"}, "emit_buffer_bytes must be less than task_buffer_bytes"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    environment: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"TAILPLANE_{name}", value)

    with pytest.raises(ValidationError, match=reason):
        Settings()
