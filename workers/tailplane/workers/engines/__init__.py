"""Workflows of other libraries, served as they are: llama-index-workflows and LangGraph.

`target` asks here for what it does not know by itself. Neither library is imported unless a target holds one of its
objects, whose module has then imported it already; this package and `recognition` import neither.
"""

from tailplane.workers.engines.errors import EngineTimeout, EngineUnfit
from tailplane.workers.engines.recognition import engine_of, serve

__all__ = ["EngineTimeout", "EngineUnfit", "engine_of", "serve"]
