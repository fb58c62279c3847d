"""The command `tailplane`. Importing this is cheap: each command brings what it needs when it is called."""

import sys


def main() -> None:
    """Run the command line and exit: 0 for success, 1 for failure, 2 for wrong usage."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        sys.stderr.write(f"error: the command line needs the package {error.name}\n")
        sys.stderr.write("hint:  pip install 'tailplane[local]'\n")
        sys.exit(1)
    from tailplane.deploy.cli.app import run

    sys.exit(run(sys.argv[1:]))
