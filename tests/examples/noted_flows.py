"""The examples' workflows with their steps noted outside of any run: in a file, one line as each begins. For a worker.

A step that a file called after it and its number, such as `refine.criticise.3`, forbids waits until that is gone.
"""

import asyncio
import functools
import os
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [os.environ["LLAMA_EXAMPLES"], f"{os.environ['LLAMA_EXAMPLES']}/../langgraph_graph"]
NOTES = Path(os.environ["LLAMA_NOTES"])

import flows as _flows  # type: ignore[import-not-found]  # noqa: E402
from assistant import assistant  # type: ignore[import-not-found]  # noqa: E402, F401


def _noted(flow: str, name: str, function: Any) -> Any:
    @functools.wraps(function)
    async def step(*args: Any, **kwargs: Any) -> Any:
        with (NOTES / "steps").open("a") as file:
            file.write(f"{flow}.{name}\n")
        number = (NOTES / "steps").read_text().split().count(f"{flow}.{name}")
        while (NOTES / f"{flow}.{name}.{number}").exists():
            await asyncio.sleep(0.01)
        return await function(*args, **kwargs)

    return step


for _flow in _flows.__all__:
    globals()[_flow] = getattr(_flows, _flow)
    _kind = type(globals()[_flow])
    for _name, _function in list(vars(_kind).items()):
        if hasattr(_function, "_step_config"):
            setattr(_kind, _name, _noted(_flow, _name, _function))
