"""Looks at who may come in: whether somebody has to sign in, and whether the key of this environment is good."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from tailplane.deploy import probe
from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.protocol.urls import is_loopback, mask_url

_CHECK = "access"
# A key that ends earlier is told of.
_SOON = timedelta(days=7)


def check_access(url: str, api_key: str | None) -> Iterator[Finding]:
    """Look at what the control plane asks of its callers, and whether this one has it.

    Args:
        api_key: of this environment; None: there is none.
    """
    is_here = is_loopback(urlsplit(url).hostname or "")
    if api_key and not is_here and urlsplit(url).scheme == "http":
        remedy = "use https, or a network where nobody else listens"
        yield Finding(_CHECK, Verdict.WARNING, f"the API key goes to {mask_url(url)} in plain text", remedy)
    answer = probe.get_json(url, "/v1/whoami", 8.0, api_key)
    status, said = (0, None) if answer is None else answer
    if status == 200 and isinstance(said, dict):
        yield _check_key(said) if "key_id" in said else _check_openness(url, is_here)
    elif status == 401:
        why = said.get("detail", "") if isinstance(said, dict) else ""
        if api_key:
            remedy = "is TAILPLANE_API_KEY another deployment's? `tailplane keys create` makes a new one"
            yield Finding(_CHECK, Verdict.FAILURE, f"the key in TAILPLANE_API_KEY is not good: {why}", remedy)
        else:
            remedy = "set TAILPLANE_API_KEY; `tailplane keys create --direct` makes a key where Redis is reached"
            yield Finding(_CHECK, Verdict.FAILURE, "the control plane wants an API key, and there is none here", remedy)
    elif status == 404:
        yield Finding(_CHECK, Verdict.WARNING, "the control plane is older than API keys", "upgrade it")
    else:
        remedy = "look at the control plane's log"
        yield Finding(_CHECK, Verdict.FAILURE, "the control plane can't tell who comes", remedy)


def _check_key(said: dict[str, Any]) -> Finding:
    scopes, ends = ", ".join(map(str, said.get("scopes", ()))), said.get("expires_at")
    who = f"{said['key_id']} of the tenant {said.get('tenant')}: {scopes}"
    if isinstance(ends, int | float) and ends - time.time() < _SOON.total_seconds():
        left = timedelta(seconds=max(0, round(ends - time.time())))
        remedy = "make another one in time: tailplane keys create"
        return Finding(_CHECK, Verdict.WARNING, f"{who}; it expires in {left}", remedy)
    return Finding(_CHECK, Verdict.OK, who)


def _check_openness(url: str, is_here: bool) -> Finding:
    if is_here:
        return Finding(_CHECK, Verdict.OK, "nobody signs in, at an address of this machine")
    remedy = "TAILPLANE_AUTH=keys at the control planes demands API keys; see docs/operations.md"
    return Finding(_CHECK, Verdict.WARNING, f"everybody who reaches {mask_url(url)} may do everything", remedy)
