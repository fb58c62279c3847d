"""Groups of commands."""

from typing import Any

from typer.core import TyperGroup


class ListByDefault(TyperGroup):
    """A group of commands where `list` may be left out, before its options too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
