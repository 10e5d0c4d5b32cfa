"""Import paths that people write, and those of old files: modules move, names stay."""

import importlib
import sys
from typing import Any

from keras_densenet.command_line.mistyped import meant


def imported(path: str) -> Any:
    """Return what is at an import path, such as a network or an `ImageClassifier`.

    Raises:
        SystemExit: There is no such thing; the message is for the user.
    """
    module, _, name = _moved_path(path).rpartition(".")
    try:
        room = importlib.import_module(module)
    except (ImportError, ValueError) as error:
        sys.exit(f"error: there is no {path}: {error}")
    try:
        return getattr(room, name)
    except (ImportError, AttributeError) as error:
        sys.exit(f"error: there is no {path}: {error}.{meant(name, dir(room))}")


def _moved_path(path: str) -> str:
    """Return where a public class of this package is now, which old files name."""
    from keras_densenet import callbacks, data, training

    name = path.rpartition(".")[2]
    for room in (callbacks, data, training):
        if path.startswith("keras_densenet.") and name in room.__all__:
            return f"{room.__name__}.{name}"
    return path


def moved(described: Any) -> Any:
    """Return what a YAML file has, with each class_path where the class is now.

    Args:
        described: What was read: text, numbers, lists and dictionaries of such.
    """
    if isinstance(described, list):
        return [moved(item) for item in described]
    if not isinstance(described, dict):
        return described
    found = {name: moved(value) for name, value in described.items()}
    if isinstance(found.get("class_path"), str):
        found["class_path"] = _moved_path(found["class_path"])
    return found
