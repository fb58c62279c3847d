"""Helm's library in a process of its own: it brings Go's runtime, its threads and its signal handlers along.

Reads a line of JSON (`values`, `name`) and answers with one: `manifests` by template, or `error`.
"""

import json
import sys

import helm_python

with helm_python.Chart.load(sys.argv[1]) as chart:
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            chart.validate_schema(asked["values"])
            answer = {"manifests": chart.render(asked["values"], name=asked["name"], namespace="flows")}
        except helm_python.HelmError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
