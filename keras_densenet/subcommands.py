"""How a room is started from the command line: `python -m keras_densenet.<room>`."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from jsonargparse import auto_cli

USERS_MISTAKES = (ValueError, OSError)


def run_subcommands(
    commands: Mapping[str, Callable[..., Any]],
    room: str,
    arguments: list[str] | None = None,
    mistakes: tuple[type[Exception], ...] = USERS_MISTAKES,
) -> None:
    """Run the function that the command line names, with what it says.

    Args:
        commands: The functions, by the names of their commands.
        room: Such as "export", for `python -m keras_densenet.export`.
        arguments: The command line; None for that of the process.
        mistakes: Errors that are told in one line.

    Raises:
        SystemExit: After help, and after a mistake.
    """
    try:
        auto_cli(
            dict(commands), args=arguments, prog=f"python -m keras_densenet.{room}"
        )
    except mistakes as error:
        sys.exit(f"error: {error}")
