"""What looks like a secret, in any text, is not shown: passwords and tokens in URLs, API keys, stream tokens. No I/O.

A net under what the code does anyway, which is not to write secrets: what gets into a text by an exception's message,
a library's log or a URL that a proxy made is caught here.
"""

import re
from collections.abc import MutableMapping
from typing import Any

MASK = "***"

# Up to the last @ before the host's end: people forget to encode an @ inside a password.
# From the scheme's last letters: to look for its first one takes time that grows with the square of a long word.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]://)(?P<userinfo>[^\s/?#\"'<>]*)@")
_QUERY = re.compile(
    r"(?P<name>[?&](?:(?:sentinel_)?password|passwd|token|key|api_key|secret)=)[^&\s\"'<>]+", re.IGNORECASE
)
# Of a key its id may be seen: it says which one it was. Of a token that it was one.
_CREDENTIAL = re.compile(r"\b(?P<kept>tp_[0-9a-z]{26}_|tps_)[A-Za-z0-9_-]{16,}(?:\.[A-Za-z0-9_-]+)?")
_HEADER = re.compile(r"(?P<name>\b(?:bearer|basic)\s+)(?!tps?_|\*)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
# `password='...'` and `"api_key": "..."`, as dicts and objects are shown; the quotes may be escaped once more.
_NAMED = re.compile(
    r"(?P<name>\b(?:\w+[_-])?(?:password|passwd|secret|api[_-]?key|authorization|token)"
    r"(?:\\?[\"'])?\s{0,3}[:=]\s{0,3}b?\\?[\"'])(?P<value>[^\"'\\]{1,4096})",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"(?:.*[_-])?(?:authorization|api[_-]?key|admin[_-]?key|passw(?:or)?d|secret|token|cookie|credentials?)",
    re.IGNORECASE,
)


def mask_urls(text: str) -> str:
    """Return `text` with the secrets of every URL in it as `***`; user names stay."""
    if "://" not in text and "=" not in text:
        return text
    return _QUERY.sub(rf"\g<name>{MASK}", _USERINFO.sub(_without_password, text))


def mask_credentials(text: str) -> str:
    """Return `text` with API keys and stream tokens as `***`. What is JSON stays JSON."""
    return _CREDENTIAL.sub(rf"\g<kept>{MASK}", text) if "tp_" in text or "tps_" in text else text


def redact(text: str) -> str:
    """Return `text` with all that looks like a secret as `***`. For what people read: JSON may be none afterwards."""
    text = mask_credentials(text)
    if "earer" in text or "asic" in text or "EARER" in text:
        text = _HEADER.sub(rf"\g<name>{MASK}", text)
    return mask_urls(_NAMED.sub(rf"\g<name>{MASK}", text))


def redact_values(values: MutableMapping[str, Any]) -> None:
    """Redact what the values of a log's line say; those go altogether whose name says that they are secret.

    What is neither text, number, list nor map becomes the text that it is shown as.
    """
    for name, value in values.items():
        values[name] = _redacted(name, value)


def _redacted(name: str, value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case _ if _SECRET_NAME.fullmatch(name):
            return MASK
        case str():
            return redact(value)
        case dict():
            return {str(key): _redacted(str(key), inner) for key, inner in value.items()}
        case list() | tuple():
            return [_redacted("", inner) for inner in value]
        case _:
            return redact(repr(value))


def _without_password(match: re.Match[str]) -> str:
    user, colon, _ = match["userinfo"].partition(":")
    # Without a colon it is a lone token as often as a user's name.
    return f"{match['scheme']}{user if colon else ''}{':' if colon else ''}{MASK}@"
