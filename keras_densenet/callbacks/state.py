"""What of a callback a checkpoint keeps, so that it goes on where it was.

Keras's callbacks keep their state in attributes, and forget it when training begins.
What training has changed in them since then is what a checkpoint must keep. A callback
with Lightning's `state_dict` and `load_state_dict` says itself what that is.

JSON has texts, numbers, lists and dictionaries. What else is kept is a dictionary with
the key "$" that says its kind, and arrays are beside, by attribute and number.
"""

import copy
import hashlib
import inspect
import json
from collections import deque
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import keras
import numpy as np

_KIND = "$"
_COLLECTIONS = {kind.__name__: kind for kind in (tuple, set, frozenset, deque)}
_DEEPEST = 20  # levels of lists in lists; a list within itself has no end
_NOT_STATE = {"params", "validation_data"}  # what Keras tells all


def marks_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return a mark of each attribute, which is another one once it has changed."""
    return {key: _mark(value) for key, value in _attributes(callback).items()}


def state_of(
    callback: keras.callbacks.Callback, begun: dict[str, Any]
) -> tuple[dict, dict[str, np.ndarray], list[str]]:
    """Return what training has changed in a callback.

    Args:
        callback: One of a run's.
        begun: Its `marks_of` when training began: what is as it was then is not kept.

    Returns:
        What goes into JSON, the arrays, and the names of what cannot be kept, such as
        open files and tensors.
    """
    if hasattr(callback, "state_dict"):
        changed = dict(callback.state_dict())
    else:
        changed = {
            key: value
            for key, value in _attributes(callback).items()
            if key not in begun or begun[key] != _mark(value)
        }
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    lost: list[str] = []
    for key, value in changed.items():
        beside: list[np.ndarray] = []
        strange: list[Any] = []
        encoded = _encoded(value, beside, strange)
        if not strange:
            plain[key] = encoded
            arrays |= {f"{key}/{i}": array for i, array in enumerate(beside)}
        elif not _is_of_libraries(key, callback):
            lost.append(f"{type(callback).__name__}.{key}")
    return plain, arrays, lost


def restore(
    callback: keras.callbacks.Callback, plain: dict, arrays: dict[str, np.ndarray]
) -> None:
    """Let a callback go on with what `state_of` returned."""
    beside: dict[str, list] = {}
    for name, array in arrays.items():  # in the order in which they were kept
        beside.setdefault(name.rpartition("/")[0], []).append(array)
    # Version 0.1.0 kept lists of arrays, without a word of them in JSON.
    values = {key: arrays for key, arrays in beside.items() if key not in plain}
    values |= {key: _decoded(v, beside.get(key, [])) for key, v in plain.items()}
    if hasattr(callback, "load_state_dict"):
        callback.load_state_dict(values)
        return
    attributes = vars(callback)
    for key, value in values.items():
        attributes[key] = _of_its_class(attributes.get(key), value)


def _of_its_class(now: Any, value: Any) -> Any:
    """Return a value that is a `defaultdict`, a `Counter` or the like, as it is now."""
    if not isinstance(now, dict) or type(now) is dict or type(value) is not dict:
        return value
    again = copy.copy(now)
    again.clear()
    again.update(value)
    return again


def _attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the attributes that may be state.

    Not those that Keras and this package use themselves and that are private or named
    as arguments: Keras turns the sign of one (`min_delta`) when training begins, and
    an argument is what this run's user says.
    """
    arguments = _arguments(callback)
    return {
        key: value
        for key, value in vars(callback).items()
        if key not in _NOT_STATE
        and not (
            (key.startswith("_") or key in arguments)
            and _is_of_libraries(key, callback)
        )
    }


def _arguments(callback: keras.callbacks.Callback) -> set[str]:
    return {
        name
        for base in _library_bases(callback)
        for name in inspect.signature(base).parameters
    }


def is_of_keras_or_ours(cls: type) -> bool:
    """Return whether a class is Keras's or this package's."""
    return cls.__module__.partition(".")[0] in ("keras", "keras_densenet")


def _library_bases(callback: keras.callbacks.Callback) -> list[type]:
    return [base for base in type(callback).__mro__ if is_of_keras_or_ours(base)]


def _is_of_libraries(name: str, callback: keras.callbacks.Callback) -> bool:
    """Return whether a method that Keras or this package wrote uses an attribute."""
    return any(
        name in method.__code__.co_names
        for base in _library_bases(callback)
        for method in vars(base).values()
        if isinstance(method, FunctionType)
    )


def _mark(value: Any) -> tuple[str, list[int], list[Any]]:
    """Return what differs once a value has changed, and is small."""
    arrays: list[np.ndarray] = []
    strange: list[Any] = []
    text = json.dumps(_encoded(value, arrays, strange))
    digest = hashlib.sha1(text.encode(), usedforsecurity=False)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    # They are held, so that no other object gets the number of one that is gone.
    return digest.hexdigest(), [id(one) for one in strange], [_Held(strange)]


class _Held:
    """Holds objects, and is equal to all of its kind."""

    def __init__(self, objects: list) -> None:
        self.objects = objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    __hash__ = None  # type: ignore[assignment]


def _encoded(
    value: Any, arrays: list[np.ndarray], strange: list[Any], depth: int = 0
) -> Any:
    """Return a value as JSON has it.

    Args:
        value: What is to be kept.
        arrays: Gets its arrays.
        strange: Gets what cannot be kept.
        depth: How many lists it is in.
    """
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {_KIND: value.dtype.name, "value": value.item()}
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        arrays.append(value)
        return {_KIND: "array", "number": len(arrays) - 1}
    if depth == 0 and isinstance(value, dict):
        value = dict(value)  # `restore` gives it its class again
    if depth == _DEEPEST or type(value) not in (*_COLLECTIONS.values(), list, dict):
        strange.append(value)
        return None
    return _encoded_collection(
        value, lambda each: [_encoded(one, arrays, strange, depth + 1) for one in each]
    )


def _encoded_collection(value: Any, encoded: Callable[[Iterable], list]) -> Any:
    if type(value) is list:
        return encoded(value)
    if type(value) is dict:
        if _KIND not in value and all(type(key) is str for key in value):
            return dict(zip(value, encoded(value.values()), strict=True))
        return {_KIND: "dict", "items": encoded(map(list, value.items()))}
    kept = {_KIND: type(value).__name__, "items": encoded(value)}
    return kept | {"maxlen": value.maxlen} if type(value) is deque else kept


def _decoded(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return the value that `_encoded` made this of."""
    if isinstance(value, list):
        return [_decoded(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if _KIND not in value:
        return {key: _decoded(one, arrays) for key, one in value.items()}
    kind = value[_KIND]
    if kind == "array":
        return arrays[value["number"]]
    if "value" in value:
        return np.dtype(kind).type(value["value"])
    items = _decoded(value["items"], arrays)
    if kind == "dict":
        return dict(items)
    if kind == "deque":
        return deque(items, value["maxlen"])
    return _COLLECTIONS[kind](items)
