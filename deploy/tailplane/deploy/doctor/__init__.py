"""What `tailplane doctor` looks at: this installation, the control plane, the fleet and Redis, each with its remedy.

Each check answers within a few seconds and never raises: what it can't find out is a finding too.
"""

from collections.abc import Iterator

from tailplane.deploy.doctor.control_plane import check_control_plane
from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.deploy.doctor.installation import (
    check_embedded,
    check_extras,
    check_parts,
    check_python,
    required_packages,
)

DEFAULT_URL = "http://127.0.0.1:8420"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

__all__ = ["Finding", "Verdict", "diagnose"]


def diagnose(
    url: str | None, redis_url: str | None, streams_url: str | None = None, api_key: str | None = None
) -> Iterator[Finding]:
    """Yield the findings, one by one as they are made.

    Args:
        url: the control plane's; None: the default one, whose absence is then no failure.
        redis_url: likewise, for Redis.
        api_key: signs what the control plane is asked; None: there is none.
        streams_url: the cluster's that has the streams; None: there is none.
    """
    yield check_python()
    yield from check_parts()
    yield from check_extras(required_packages())
    yield check_embedded()
    is_served = False
    for finding in check_control_plane(url or DEFAULT_URL, is_expected=url is not None, api_key=api_key):
        # The fleet is looked at only through a control plane that is ready, and so has its Redis.
        is_served = is_served or finding.check == "workers"
        yield finding
    try:
        from tailplane.deploy.doctor.redis_cluster import check_cluster
        from tailplane.deploy.doctor.redis_server import check_redis
    except ImportError:
        remedy = "to look at Redis from here: pip install 'tailplane[workers]'"
        yield Finding("redis", Verdict.WARNING, "not looked at: its client is not installed here", remedy)
        return
    yield from check_redis(redis_url or DEFAULT_REDIS_URL, is_expected=redis_url is not None, is_needed=not is_served)
    if streams_url is not None:
        yield from check_cluster(streams_url)
