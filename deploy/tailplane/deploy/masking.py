"""No password of a URL and no API key may reach a terminal or a log: all that the command line prints goes here. Pure.

Which key it was may be seen: its id is no secret.
"""

from tailplane.protocol.redaction import mask_credentials, mask_urls


def mask(text: str) -> str:
    """Return `text` with the secrets of all URLs, API keys and stream tokens in it as `***`; user names stay."""
    return mask_urls(mask_credentials(text))
