"""The command line, and the whole of Tailplane on one machine: the only part that knows all the others.

Importing this package is cheap; each module brings what it needs.
"""
