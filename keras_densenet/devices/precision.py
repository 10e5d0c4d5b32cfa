"""Precisions by Lightning's names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_densenet.errors import MisconfigurationError

POLICIES = {
    "32-true": "float32",
    "16-mixed": "mixed_float16",
    "bf16-mixed": "mixed_bfloat16",
    "64-true": "float64",
    "16-true": "float16",
    "bf16-true": "bfloat16",
}

_SHORT = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


def policy_name(precision: str) -> str:
    """Return Keras's name of a precision, given by Lightning's name or its own.

    >>> policy_name("bf16-mixed")
    'mixed_bfloat16'

    Raises:
        MisconfigurationError: Unknown precision.
    """
    if precision in POLICIES.values():
        return precision
    name = _SHORT.get(str(precision), str(precision))
    if name in POLICIES:
        return POLICIES[name]
    raise MisconfigurationError(
        f"precision must be one of {', '.join(POLICIES)}, or a Keras policy such as "
        f"'mixed_bfloat16'. Received: precision={precision!r}"
    )


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Let layers made inside have this policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def unscaled(optimizer: Any) -> Any:
    """Return the optimizer itself where a loss scale optimizer is around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def has_schedule(optimizer: Any) -> bool:
    """Return whether an optimizer's learning rate follows a schedule of Keras."""
    return isinstance(unscaled(optimizer).get_config()["learning_rate"], dict)
