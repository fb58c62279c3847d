"""What may be shown of a URL, and whether a host is this machine. No I/O."""

import ipaddress


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
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    if "@" in rest.partition("?")[2]:
        # A password behind the ?, or one that holds a ? itself: whichever it is, what follows the @ may be secret.
        return f"{scheme}{separator}***"
    # Up to the last @, whatever a password that nobody has escaped holds; the query may name a password, too.
    host = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}{separator}{'***@' if '@' in rest else ''}{host}"
