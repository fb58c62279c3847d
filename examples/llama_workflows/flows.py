"""All of them, for one worker.

tailplane dev examples/llama_workflows/flows.py
tailplane run joke '{"topic": "pirates"}' --follow
"""

from agent import agent
from approval import approval
from basket import basket
from fan_out import fan_out
from introduction import introduction
from joke import joke
from map_reduce import map_reduce
from refine import refine
from research import research
from unreliable import unreliable

__all__ = [
    "agent",
    "approval",
    "basket",
    "fan_out",
    "introduction",
    "joke",
    "map_reduce",
    "refine",
    "research",
    "unreliable",
]
