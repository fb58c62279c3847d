"""What may be shown of a URL. No I/O."""


def mask_url(url: str) -> str:
    """Return `url` without what may be secret in it, for logs and errors: user, password, and its query."""
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("?")[2]:
        # A password behind the ?, or one that holds a ? itself: whichever it is, what follows the @ may be secret.
        return f"{scheme}://***"
    # Up to the last @, whatever a password that nobody has escaped holds; the query may name a password, too.
    host = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://{'***@' if '@' in rest else ''}{host}"
