"""The example that `tailplane demo` runs: an analysis of a folder of text files that tells its findings as it goes.

`tailplane worker tailplane.deploy.demo.analysis` serves it anywhere. Importing this package imports nothing.
"""
