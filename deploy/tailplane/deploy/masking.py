"""No password of a URL and no API key may reach a terminal or a log: all that the command line prints goes here. Pure.

Which key it was may be seen: its id is no secret.
"""

import re

# Up to the last @ before the host's end: people forget to encode an @ inside a password.
# From the scheme's last letters: to look for its first one takes time that grows with the square of a long word.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]://)(?P<userinfo>[^\s/?#\"'<>]*)@")
_QUERY = re.compile(
    r"(?P<name>[?&](?:(?:sentinel_)?password|passwd|token|key|api_key|secret)=)[^&\s\"'<>]+", re.IGNORECASE
)

_CREDENTIAL = re.compile(r"(?P<kind>tp_[0-9a-z]{26}_|tps_)[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)?")


def mask(text: str) -> str:
    """Return `text` with the secrets of all URLs, API keys and stream tokens in it as `***`; user names stay."""
    if "tp" in text:
        text = _CREDENTIAL.sub(r"\g<kind>***", text)
    if "://" not in text and "=" not in text:
        return text
    return _QUERY.sub(r"\g<name>***", _USERINFO.sub(_without_password, text))


def _without_password(match: re.Match[str]) -> str:
    user, colon, _ = match["userinfo"].partition(":")
    # Without a colon it is a lone token as often as a user's name.
    return f"{match['scheme']}{user if colon else ''}{':' if colon else ''}***@"
