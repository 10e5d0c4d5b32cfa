"""What of a callback a checkpoint keeps, so that it goes on where it was.

Keras's callbacks keep their state in attributes, and forget it when training begins.
What training has changed in them since then is what a checkpoint must keep. A callback
with Lightning's `state_dict` and `load_state_dict` says itself what that is.
"""

import copy
import inspect
from typing import Any

import keras
import numpy as np

_PLAIN = (bool, int, float, str, type(None), np.generic)
_NOT_STATE = {"params": None, "validation_data": None}  # what Keras tells all


def state_of(
    callback: keras.callbacks.Callback, begun: dict
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return a callback's numbers and texts, and its arrays, such as best weights.

    Args:
        callback: One of a run's.
        begun: Its `plain_attributes` when training began: what is as it was then is
            not kept.
    """
    if hasattr(callback, "state_dict"):
        return callback.state_dict(), {}
    plain = {
        key: value
        for key, value in plain_attributes(callback).items()
        if key not in begun or begun[key] != value
    }
    arrays = {
        f"{key}/{i}": np.asarray(array)
        for key, value in vars(callback).items()
        if isinstance(value, list) and all(isinstance(a, np.ndarray) for a in value)
        for i, array in enumerate(value)
    }
    return plain, arrays


def restore(
    callback: keras.callbacks.Callback, plain: dict, arrays: dict[str, np.ndarray]
) -> None:
    """Let a callback go on with what `state_of` returned."""
    if hasattr(callback, "load_state_dict"):
        callback.load_state_dict(plain)
        return
    vars(callback).update(plain)
    lists: dict[str, list] = {}
    for name, array in arrays.items():  # in the order in which they were kept
        lists.setdefault(name.rpartition("/")[0], []).append(array)
    vars(callback).update(lists)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text or None, or made of those."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return isinstance(value, _PLAIN)


def plain_attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the public attributes that are numbers, texts or None, or made of those.

    Not those that are named as arguments: they are what this run's user says, and
    Keras turns the sign of one (`min_delta`) when training begins.
    """
    arguments = dict(inspect.signature(type(callback)).parameters)
    return {
        key: value.item() if isinstance(value, np.generic) else copy.deepcopy(value)
        for key, value in vars(callback).items()
        if not (key.startswith("_") or key in arguments | _NOT_STATE)
        and _is_plain(value)
    }
