"""Names of other libraries' workflows."""

import re

from tailplane.protocol.errors import InvalidId
from tailplane.protocol.ids import check_workflow_name
from tailplane.workers.engines.errors import EngineUnfit


def name_of(*candidates: str | None) -> str:
    """Return the first name that there is, with `-` for what can't be in a workflow's name.

    Raises:
        EngineUnfit: it does not begin with a letter or `_`.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", next(filter(None, candidates)) or "")[:128]
    try:
        return check_workflow_name(name)
    except InvalidId as error:
        raise EngineUnfit(str(error)) from None
