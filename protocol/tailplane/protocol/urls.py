"""What may be shown of a URL, and whether a host is this machine. No I/O."""

import ipaddress
import re

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address, with or without brackets, is one of this machine's own."""
    name = host.strip("[]").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def mask_url(url: str) -> str:
    """Return `url` without what may be secret in it, for logs and errors: user, password, and its query."""
    # At the beginning alone: a query, or a password, may hold another URL.
    found = _SCHEME.match(url)
    scheme = found[0] if found else ""
    rest = url[len(scheme) :]
    if "@" in rest.partition("?")[2]:
        # A password behind the ?, or one that holds a ? itself: whichever it is, what follows the @ may be secret.
        return f"{scheme}***"
    # Up to the last @, whatever a password that nobody has escaped holds; the query may name a password, too.
    host = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}{'***@' if '@' in rest else ''}{host}"
