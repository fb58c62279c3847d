import pytest

from tailplane.deploy.masking import mask

KEY = "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_" + "aB3_-" * 8 + "xyz"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://user:pw@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:pw@host", "redis://:***@host"),
        ("rediss://user:p@ss:w@host/1", "rediss://user:***@host/1"),
        ("redis+sentinel://user:pw@a:1,b:2/main/0", "redis+sentinel://user:***@a:1,b:2/main/0"),
        ("redis+sentinel://a,b/main?sentinel_password=pw", "redis+sentinel://a,b/main?sentinel_password=***"),
        ("http://token@host/x", "http://***@host/x"),
        ("redis://host/0?password=pw&db=1", "redis://host/0?password=***&db=1"),
        ("https://host/a?api_key=pw", "https://host/a?api_key=***"),
        ("can't reach redis://a:b@c, nor http://d:e@f.", "can't reach redis://a:***@c, nor http://d:***@f."),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("somebody@example.org", "somebody@example.org"),
        ("http://host/path/@handle", "http://host/path/@handle"),
        ('{"url": "redis://:pw@h", "mail": "a@b"}', '{"url": "redis://:***@h", "mail": "a@b"}'),
        (f"signed with {KEY}.", f"signed with {KEY[:30]}***."),
        (f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY[:30]}***"),
        ("GET /x?token=tps_lwGkaWRfMQ_-" + "A" * 40 + ".mac_-A&x=1", "GET /x?token=***&x=1"),
        ("see tps_lwGkaWRfMQ_-" + "A" * 40 + ".mac_-A here", "see tps_*** here"),
        ("a tp_ that is none, http://h", "a tp_ that is none, http://h"),
        ("", ""),
    ],
)
def test_secrets_of_urls_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_masking_twice_changes_nothing() -> None:
    once = mask(f"redis://user:pw@host?token=x {KEY}")
    assert mask(once) == once
