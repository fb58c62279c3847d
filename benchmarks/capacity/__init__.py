"""What a deployment must consist of to carry a load: unit costs measured on this machine, and what follows from them.

`measure` takes the unit costs and writes `costs.json`; `model` calculates a fleet from them; `simulation` places tasks
and readers at random on that fleet, and lets one of its processes die. docs/scaling.md tells the results.
"""
