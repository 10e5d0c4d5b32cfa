"""Pickles, read without running what is in them.

A pickle may call any function of Python. Here nothing is imported by name, and only
those functions are called that the reader of a file names itself. For any other class
or function an object stands that does nothing but keep what the pickle gives it: whole
models are pickled, too, and their weights are among their attributes.
"""

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from keras_densenet.weights.errors import WeightsError

_EXTENSIONS = ("EXT1", "EXT2", "EXT4")  # call by a number, past `find_class`
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")  # make room for as many objects as they say


class Inert:
    """Stands for an object of a class that is not known, and does nothing.

    Attributes:
        described: Name of the class or function in the file, "module.name".
        entries: What the pickle put into it, as into a dictionary.
        attributes: The attributes that the pickle gave it.
    """

    described = ""
    entries: dict[Any, Any]
    attributes: dict[str, Any]

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Take whatever the file gives."""
        inert = super().__new__(cls)
        inert.entries, inert.attributes = {}, {}
        return inert

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Return an object that does nothing, either."""
        return self

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes, of which the pickle of a class with slots has two."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                self.attributes.update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an entry, as a dictionary does."""
        self.entries[key] = value

    def _ignored(self, *_: Any, **__: Any) -> None:
        return None

    # What a pickle does to an object that it has made.
    __init__ = append = extend = add = _ignored


def refuse_inert(saved: Any) -> Any:
    """Return what a file has, unless that is an object that does nothing, or its class.

    Raises:
        WeightsError: It is.
    """
    kind: Any = saved if isinstance(saved, type) else type(saved)
    if issubclass(kind, Inert):
        raise WeightsError(
            f"the file calls for {kind.described}, which is no tensor. It was not run. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    return saved


class InertUnpickler(pickle.Unpickler):
    """Makes dictionaries, what `known` names, and inert objects of anything else.

    Args:
        file: A file, at the beginning of a pickle.
        known: Functions and classes by module and name.
    """

    def __init__(self, file: BinaryIO, known: Mapping[tuple[str, str], Any]) -> None:
        _refuse_tricks(file)
        super().__init__(file, encoding="latin1")  # text of Python 2 may be any bytes
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may call: what is known, or does nothing at all."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in self._known:
            found = self._known[module, name]
            # A pickle can set attributes of what it gets: those of a new function.
            return found if isinstance(found, type) else _forwarding(found)
        return type("Inert", (Inert,), {"described": f"{module}.{name}"})


def _forwarding(function: Callable) -> Callable:
    return lambda *arguments: function(*arguments)


def _refuse_tricks(file: BinaryIO) -> None:
    """Read a pickle without obeying it, and go back to its beginning.

    Raises:
        WeightsError: It calls by a number of Python's extension registry, or makes room
            for more objects than it can have.
        ValueError: It is no pickle.
    """
    begin = file.tell()
    size = file.seek(0, 2)
    file.seek(begin)
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in _EXTENSIONS:
            raise WeightsError(
                "the file calls for a number of Python's extension registry, which no "
                "file of weights does. It was not run. Save the weights alone: "
                "torch.save(model.state_dict(), path)."
            )
        if operation.name in _PUTS and int(argument or 0) > size:
            raise WeightsError(
                f"the file makes room for {argument} objects, more than it has bytes. "
                "Copy or download it anew."
            )
    file.seek(begin)
