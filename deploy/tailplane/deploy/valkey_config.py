"""Valkey's configuration file: values of Python in, lines out. Pure."""

from collections.abc import Mapping

ConfigValue = str | int | bool | tuple[str, ...]


def render(settings: Mapping[str, ConfigValue]) -> str:
    """Return the text of a configuration file; a tuple is a setting that takes several words."""
    return "".join(f"{name} {_value(value)}\n" for name, value in settings.items())


def _value(value: ConfigValue) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return " ".join(_value(word) for word in value)
