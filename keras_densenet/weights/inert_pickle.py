"""Pickles, read without running what is in them.

A pickle is a list of operations on a stack, and some of them call any function of
Python. Here the operations are followed one by one, without Python's own unpickler:
nothing is imported, and only those functions are called that the reader of a file names
itself. For whatever another one would make there is an object that does nothing but
keep what the pickle gives it: whole models are pickled, too, and their weights are
among their attributes.

A file of some hundred bytes can have lists within lists that no one could walk through
in a lifetime, where each has the one before it many times. So nothing is walked through
here, and nothing is copied but what an operation takes from the stack.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from keras_densenet.weights.errors import WeightsError, shown

MOST_OPERATIONS = 10_000_000  # which take some ten seconds

# By the names that `pickletools` has for the operations that push a value, or nothing.
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass(frozen=True, slots=True)
class Global:
    """A class or a function of Python, of which a pickle has only the name."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return the name as an error shows it."""
        return shown(f"{self.module}.{self.name}")


@dataclass(eq=False, slots=True)
class Inert:
    """Stands for what a class or a function would make, and does nothing.

    Attributes:
        described: The class or the function.
        entries: What the pickle put into it, as into a dictionary.
        state: What it had in Python: its attributes, or a pair of these and of those
            in its slots.
    """

    described: Global
    entries: dict[Any, Any] = field(default_factory=dict)
    state: Any = None

    @property
    def parts(self) -> list[dict[Any, Any]]:
        """All that has something of it by name: its attributes, and its entries."""
        state = self.state[:2] if isinstance(self.state, tuple) else (self.state,)
        return [part for part in (*state, self.entries) if isinstance(part, dict)]


def refuse_inert(saved: Any) -> Any:
    """Return what a file has, unless it is a name, or stands for what was not made.

    Raises:
        WeightsError: It is, or does.
    """
    if isinstance(saved, Global | Inert):
        called = saved.described if isinstance(saved, Inert) else saved
        raise WeightsError(
            f"the file calls for {called}, which is no tensor. It was not run. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    return saved


class InertUnpickler:
    """Makes plain values, lists, tuples and dictionaries, and of the rest inert ones.

    Sets become lists and tuples. Of a dictionary only the entries by a text or by a
    number are kept: to find the place of a tuple, Python walks through all in it.

    Args:
        file: A file, at the beginning of a pickle.
        known: Functions that the pickle may call, by the names that it has for them.
    """

    def __init__(self, file: BinaryIO, known: Mapping[Global, Callable]) -> None:
        self._file = file
        self._known = {Global("collections", "OrderedDict"): self._dictionary, **known}
        self._stack: list[Any] = []
        self._marks: list[int] = []  # how much was on the stack at each mark
        self._memo: dict[int, Any] = {}
        self._followed = self._copied = 0

    def load(self) -> Any:
        """Follow the operations of a pickle, and return what they have made.

        Raises:
            WeightsError: It has too many, or calls by a number of Python's registry.
            ValueError: It is no pickle.
        """
        for operation, argument, _ in pickletools.genops(self._file):
            self._followed += 1
            if self._followed > MOST_OPERATIONS:
                raise WeightsError(
                    f"the file has more than {MOST_OPERATIONS:,} objects beside its "
                    "numbers. Save the weights alone: "
                    "torch.save(model.state_dict(), path)."
                )
            if operation.name in _VALUES:
                self._stack.append(argument)
            elif operation.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[operation.name])
            else:
                getattr(self, f"_do_{operation.name.lower()}")(argument)
        return self._stack.pop()

    def persistent_load(self, pid: Any) -> Any:
        """Return what lies beside the pickle, by what is said of it there."""
        raise ValueError("it refers to what is not in it")

    def call(self, function: Any, arguments: Any) -> Any:
        """Call what is known, and make an inert object of anything else."""
        if isinstance(function, Inert):
            return Inert(function.described)
        if not isinstance(function, Global):
            raise ValueError("it calls what is no function")
        if function not in self._known:
            return Inert(function)
        return self._known[function](*arguments[:16])  # none of ours takes more

    def _dictionary(self, pairs: Any = ()) -> dict[Any, Any]:
        """Make a dictionary, which Python 2 writes as a list of pairs."""
        self._copied += len(pairs)
        if self._copied > self._followed:  # each pair took an operation to make it
            raise WeightsError(
                "the file makes many dictionaries of one list. Copy or download it "
                "anew."
            )
        return {key: value for key, value in pairs if _is_name(key)}

    # --- operations --------------------------------------------------------------

    def _do_proto(self, _: Any) -> None:
        """Pass over what says how the rest is written, as that is seen without it."""

    _do_frame = _do_proto

    def _do_stop(self, _: Any) -> None:
        """Do nothing: the last operation."""

    def _do_mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _marked(self) -> list[Any]:
        """Take what was pushed after the last mark."""
        begin = self._marks.pop()
        marked = self._stack[begin:]
        del self._stack[begin:]
        return marked

    def _do_pop_mark(self, _: Any) -> None:
        self._marked()

    def _do_pop(self, _: Any) -> None:
        is_mark = self._marks and self._marks[-1] == len(self._stack)
        (self._marks if is_mark else self._stack).pop()

    def _do_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _do_put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, _: Any) -> None:
        self._do_put(len(self._memo))

    def _do_get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    _do_binget = _do_long_binget = _do_get

    def _do_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    _do_frozenset = _do_tuple

    def _do_tuple1(self, _: Any) -> None:
        self._stack.append((self._stack.pop(),))

    def _do_tuple2(self, _: Any) -> None:
        second, first = self._stack.pop(), self._stack.pop()
        self._stack.append((first, second))

    def _do_tuple3(self, _: Any) -> None:
        third, second, first = (self._stack.pop() for _ in range(3))
        self._stack.append((first, second, third))

    def _do_empty_list(self, _: Any) -> None:
        self._stack.append([])

    _do_empty_set = _do_empty_list

    def _do_list(self, _: Any) -> None:
        self._stack.append(self._marked())

    def _do_append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _do_appends(self, _: Any) -> None:
        self._extend(self._marked())

    _do_additems = _do_appends

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def _do_empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _do_dict(self, _: Any) -> None:
        items = self._marked()
        self._stack.append({})
        self._update(items)

    def _do_setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _do_setitems(self, _: Any) -> None:
        self._update(self._marked())

    def _update(self, items: list[Any]) -> None:
        into = self._stack[-1]
        into = into.entries if isinstance(into, Inert) else into
        if isinstance(into, dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            into.update((key, value) for key, value in pairs if _is_name(key))

    def _do_global(self, names: str) -> None:
        self._stack.append(Global(*names.split(" ", 1)))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("the name of a class or a function is no text")
        self._stack.append(Global(module, name))

    def _do_reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self.call(function, arguments))

    _do_newobj = _do_reduce

    def _do_newobj_ex(self, _: Any) -> None:
        self._stack.pop()  # arguments by name, of which no function of ours has any
        self._do_reduce(_)

    def _do_inst(self, names: str) -> None:
        arguments = self._marked()
        self._stack.append(self.call(Global(*names.split(" ", 1)), arguments))

    def _do_obj(self, _: Any) -> None:
        function, *arguments = self._marked()
        self._stack.append(self.call(function, arguments))

    def _do_build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Inert):
            self._stack[-1].state = state

    def _do_persid(self, pid: str) -> None:
        self._stack.append(self.persistent_load(pid))

    def _do_binpersid(self, _: Any) -> None:
        self._do_persid(self._stack.pop())

    def _do_ext1(self, _: Any) -> None:
        raise WeightsError(
            "the file calls for a number of Python's extension registry, which no "
            "file of weights does. It was not run. Save the weights alone: "
            "torch.save(model.state_dict(), path)."
        )

    _do_ext2 = _do_ext4 = _do_ext1

    def _do_next_buffer(self, _: Any) -> None:
        raise ValueError("it has buffers beside it")

    _do_readonly_buffer = _do_next_buffer


def _is_name(key: Any) -> bool:
    """Return whether an entry is kept: it is by a text, or by a number of 64 bits."""
    return isinstance(key, str) or (isinstance(key, int) and key.bit_length() <= 64)
