"""The error for weights that cannot be loaded, and what it shows of a file."""

from typing import Any

MOST_SHOWN = 150  # letters out of a file that an error shows
MOST_LETTERS = 500  # of a weight's name, and of its place in a file


class WeightsError(ValueError):
    """The file cannot be read, or the weights are those of another network."""


def shown(text: Any, most: int = MOST_SHOWN) -> str:
    r"""Return text out of a file as an error shows it: short, and printable.

    >>> shown("features.conv0.weight"), len(shown("a" * 1000)), shown("\x1b[31m")
    ('features.conv0.weight', 150, "'\\x1b[31m'")
    """
    short = str(text)[:most]
    return short if short.isprintable() else ascii(short)
