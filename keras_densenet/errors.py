"""What a training is refused for before it begins, and what ends it."""

import difflib
import re
from collections.abc import Iterable, Sequence

BROKEN_PICTURE = re.compile("BrokenPictureError: (.+)")  # within TensorFlow's errors


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest one; "" where none is near.

    >>> did_you_mean("val_acc", ["loss", "val_accuracy"])
    " Did you mean 'val_accuracy'?"
    """
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first of some names, and how many more there are.

    >>> few(["a", "b"]), few(["a", "b", "c", "d"], most=2)
    ('a, b', 'a, b and 2 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class MisconfigurationError(ValueError):
    """Arguments that cannot work, alone or together; the message has the cure."""


MisconfigurationException = MisconfigurationError  # Lightning's name for it


class NotANumberError(ArithmeticError):
    """The loss is not a number; the message names the last good checkpoint."""


class WorkerLostError(RuntimeError):
    """Another machine of a training is gone; the message says how to go on."""
