"""Names of tenants as labels of metrics: of those that are seen first, the rest as one, so that there are not too many.

Each program has its own: which tenants it names depends on whom it has seen. No I/O.
"""

from tailplane.protocol.ids import DEFAULT_TENANT

MOST = 100
# A tenant of this name is counted with the rest.
REST = "other"


class TenantLabels:
    """The labels of one program."""

    def __init__(self, most: int = MOST) -> None:
        """Name the default tenant, and up to `most` others."""
        self._most = most
        self._names = {DEFAULT_TENANT: DEFAULT_TENANT}

    def __getitem__(self, tenant: str) -> str:
        """Return what a tenant is counted under. From any thread: two at once may name one too many."""
        name = self._names.get(tenant)
        if name is not None:
            return name
        if len(self._names) > self._most:
            return REST
        self._names[tenant] = tenant
        return tenant
