"""Writes docs/configuration.md: all that can be set, in the words that the source has for it. `make docs` calls it.

`python -m tailplane.deploy.configuration` prints it. A test fails where the document is another.
"""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tailplane.broker.settings import DeploymentSettings
from tailplane.client.options import ClientOptions, ReconnectPolicy
from tailplane.control_plane import Settings as ControlPlaneSettings
from tailplane.workers import Settings as WorkerSettings
from tailplane.workers.workflow import Options

_HEAD = """\
# Configuration

Written by `make docs` from the source: change the docstrings there, not this file.

The programs read their settings once, from the environment. A duration is a number of seconds, a number with a unit
(`500ms`, `5s`, `10m`, `24h`, `7d`) or ISO 8601. A value that does not fit ends the program with a line that names the
variable. What stands on the command line counts more than the environment.
"""

# Read elsewhere than in a class of settings.
_CLIENT_VARIABLES = {
    "TAILPLANE_API_KEY": "The API key, for `Client()` without one and for all commands. None, or empty: requests "
    "have no credential.",
    "TAILPLANE_URL": "The control plane, for `Client()` without a URL and for all commands without `--url`. "
    "The default is `http://127.0.0.1:8420`.",
    "TAILPLANE_DEBUG": "Commands show the traceback of what they did not foresee; anything but empty turns it on.",
    "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY": "The client goes through a proxy where one is named for the "
    "control plane's address, never to this machine.",
    "NO_COLOR": "`tailplane dev` prints without colours; anything but empty turns it on.",
}
_DEV = """\
`tailplane dev` starts the programs with this environment, over which it sets where they find each other
(`TAILPLANE_REDIS_URL`, `TAILPLANE_URL`, `TAILPLANE_HOST`, `TAILPLANE_PORT`); `TAILPLANE_METRICS_PORT` it leaves
out: one port can't be that of all; and so it does `TAILPLANE_AUTH`, `TAILPLANE_ADMIN_KEY`, `TAILPLANE_API_KEY` and
`TAILPLANE_METRICS_TOKEN`: nobody signs in to what this machine alone reaches, which it says where one of the first
two asks for it, and no process of it gets the key of another deployment. Where the environment does not say
otherwise, `TAILPLANE_DRAIN_GRACE` is 2 s and `TAILPLANE_LOG_FORMAT` is `console`. Its data is below `XDG_DATA_HOME`
(`~/.local/share`; on macOS `~/Library/Application Support`), or where `--data-dir` says.
"""
_OTEL = """\
OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` ...) turn
traces on: see [observability.md](observability.md).
"""

# A day is 24h to most; days are for more than one.
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))
_TYPES = {str: "text", timedelta: "duration", bool: "true or false"}
_SIZES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def render() -> str:
    """Return the document."""
    shared = DeploymentSettings.model_fields
    parts = [
        _HEAD,
        "## Control planes and workers\n",
        _table(_variable_rows(DeploymentSettings, shared)),
        "## Control planes\n",
        _table(_variable_rows(ControlPlaneSettings, _own(ControlPlaneSettings.model_fields, shared))),
        "## Workers\n",
        _table(_variable_rows(WorkerSettings, _own(WorkerSettings.model_fields, shared))),
        _OTEL,
        "## `tailplane dev`\n",
        _DEV,
        "## Clients and commands\n",
        _table([("variable", "what it says"), *((f"`{name}`", says) for name, says in _CLIENT_VARIABLES.items())]),
        "`Client(options=ClientOptions(...))`; times are timedeltas:\n",
        _table(_attribute_rows(ClientOptions)),
        "`ClientOptions(reconnect=ReconnectPolicy(...))`:\n",
        _table(_attribute_rows(ReconnectPolicy)),
        "## Workflows\n",
        "`@workflow(...)`; times are timedeltas or seconds:\n",
        _table(_option_rows()),
    ]
    return "\n".join(parts)


def _own(fields: Mapping[str, FieldInfo], shared: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    return {name: field for name, field in fields.items() if name not in shared}


def _variable_rows(kind: type, fields: Mapping[str, FieldInfo]) -> Iterator[tuple[str, ...]]:
    says = _docstrings(kind)
    yield "variable", "value", "default", "what it says"
    for name, field in fields.items():
        value = _type_words(name, field.annotation) + _bounds(field.metadata)
        yield f"`TAILPLANE_{name.upper()}`", value, _default_words(name, field.default), says[name]


def _attribute_rows(kind: type) -> Iterator[tuple[str, ...]]:
    says = _docstrings(kind)
    yield "option", "default", "what it says"
    for field in dataclasses.fields(kind):
        if field.name in says:
            yield f"`{field.name}`", _default_words(field.name, field.default), says[field.name]


def _option_rows() -> Iterator[tuple[str, ...]]:
    says = _attributes(Options)
    yield "option", "default", "what it says"
    for field in dataclasses.fields(Options):
        yield f"`{field.name}`", _default_words(field.name, field.default), says[field.name]


def _docstrings(kind: type) -> dict[str, str]:
    """Return what stands under each attribute of a class in its source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    said = {}
    for attribute, below in zip(definition.body, definition.body[1:], strict=False):
        match attribute, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                said[name] = _capital(" ".join(text.split()))
    return said


def _attributes(kind: type) -> dict[str, str]:
    """Return what the docstring of a class says of its attributes."""
    _, _, text = inspect.getdoc(kind).partition("Attributes:\n")  # type: ignore[union-attr]  # each class of ours has one
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: _capital(" ".join(said.split())) for name, said in entries}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _type_words(name: str, annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if kinds := [kind for kind in get_args(annotation) if kind is not NoneType]:
        return _type_words(name, kinds[0])
    if annotation is int:
        return "bytes" if name.endswith("_bytes") else "number"
    return {str: "text", SecretStr: "text", timedelta: "duration", bool: "true or false"}.get(
        annotation, getattr(annotation, "__name__", "")
    )


def _bounds(metadata: Iterable[object]) -> str:
    bounds = {type(bound): bound for bound in metadata if isinstance(bound, Ge | Le)}
    match bounds.get(Ge), bounds.get(Le):
        case Ge(ge=least), Le(le=most):
            return f", {least} to {most}"
        case Ge(ge=least), None:
            return f", at least {least}"
        case _:
            return ""


def _default_words(name: str, default: object) -> str:
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case timedelta():
            return _duration_words(default)
        case int() if name.endswith("_bytes"):
            return f"{default} ({_size_words(default)})"
        case type():
            return f"`{default.__name__}`"
        case _:
            return f"`{default}`"


def _duration_words(duration: timedelta) -> str:
    for unit, size in _UNITS:
        if duration >= size * (2 if unit == "d" else 1) and not duration % size:
            return f"`{duration // size}{unit}`"
    return f"`{duration // timedelta(milliseconds=1)}ms`"


def _size_words(size_bytes: int) -> str:
    return next((f"{size_bytes / size:g} {unit}" for size, unit in _SIZES if size_bytes >= size), f"{size_bytes} B")


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *rest = rows
    # A bar would end the cell.
    cells = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rest)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


if __name__ == "__main__":
    sys.stdout.write(render())
