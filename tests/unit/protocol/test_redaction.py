import time

import pytest

from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id
from tailplane.protocol.redaction import redact, redact_values

KEY = "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_" + "S" * 43
TOKEN = "tps_" + "T" * 80 + "." + "U" * 43


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (KEY, "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_***"),
        (f"({KEY})", "(tp_01jd3z0v9m6s8k2x4q7w5e1r0t_***)"),
        (TOKEN, "tps_***"),
        (TOKEN.partition(".")[0], "tps_***"),
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer tp_01jd3z0v9m6s8k2x4q7w5e1r0t_***"),
        ("authorization: bearer hunter2hunter2", "authorization: bearer ***"),
        ("Basic YWRhOmh1bnRlcjI=", "Basic ***"),
        (f"/v1/tasks/t_1/events?token={TOKEN}&from=3", "/v1/tasks/t_1/events?token=***&from=3"),
        ("redis://ada:hunter2@host/0", "redis://ada:***@host/0"),
        ("{'password': 'hunter2', 'n': 3}", "{'password': '***', 'n': 3}"),
        ("Settings(redis_password='hunter2')", "Settings(redis_password='***')"),
        ('{"event":"it has {\\"api_key\\": \\"hunter2\\"}"}', '{"event":"it has {\\"api_key\\": \\"***\\"}"}'),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "t_01jd3z0v9m6s8k2x4q7w5e1r0t of my_token_workflow took 3 tokens",
        "basic checks passed; the bearer of bad news",
        "https://host/v1/tasks?limit=3&page=t_1",
        "tp_ is how keys begin",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redact(text) == text


def test_each_key_that_can_be_drawn_is_masked() -> None:
    for _ in range(1000):
        key = ApiKey.draw(new_key_id())
        assert key.secret not in redact(f'{{"event":"{key.text}"}}')


def test_values_go_by_their_names() -> None:
    values: dict[str, object] = {
        "authorization": "x",
        "Api-Key": b"x",
        "redis_password": "x",
        "headers": {"cookie": "x", "accept": "y"},
        "token": None,
        "tokens": 3,
        "key": "a",
    }

    redact_values(values)

    assert values == {
        "authorization": "***",
        "Api-Key": "***",
        "redis_password": "***",
        "headers": {"cookie": "***", "accept": "y"},
        "token": None,
        "tokens": 3,
        "key": "a",
    }


def test_what_is_no_text_is_shown_as_the_log_would() -> None:
    values: dict[str, object] = {"error": ValueError(f"no {KEY}"), "all": [TOKEN, {"password": "x"}], "n": 1.5}

    redact_values(values)

    assert values == {
        "error": "ValueError('no tp_01jd3z0v9m6s8k2x4q7w5e1r0t_***')",
        "all": ["tps_***", {"password": "***"}],
        "n": 1.5,
    }


@pytest.mark.parametrize("word", ["a_", "password", "://", "token=", "bearer ", "tps_", "x", "a-secret", "'\\\"", "@"])
def test_it_takes_no_time_that_grows_faster_than_the_text(word: str) -> None:
    text = word * (400_000 // len(word))
    began = time.perf_counter()

    redact(text)

    # Ten milliseconds alone; what grows with the square takes minutes.
    assert time.perf_counter() - began < 5
