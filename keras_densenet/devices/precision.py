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
    """Let layers made inside have this policy, and all else its `default_floats`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        with default_floats(name):
            yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def default_floats(name: str) -> Iterator[None]:
    """Let what has no policy be float64 inside, where the policy's name is "float64".

    Losses, metrics, schedules and weights of classes are of Keras's `floatx`, when they
    are made or when a step is traced: float32, whatever the network computes in. In
    lower precisions they stay that.
    """
    before = keras.config.floatx()
    if name == "float64":
        keras.config.set_floatx(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def compute_loss_in_double(model: keras.Model) -> None:
    """Let a model's losses compute in float64, those that were made elsewhere, too.

    Copies of them do: the user's own stay as they are.
    """
    compiled = getattr(model, "_compile_loss", None)
    if compiled is not None and not compiled.built:
        _be_double(compiled)
        compiled._user_loss = keras.tree.map_structure(_double, compiled._user_loss)


def _double(loss: Any) -> Any:
    """Return a copy of a loss that computes in float64; what is no object is itself."""
    if not isinstance(loss, keras.losses.Loss):
        return loss
    double = object.__new__(type(loss))  # `copy` would have Keras write a file
    vars(double).update(vars(loss))
    _be_double(double)
    return double


def _be_double(loss: keras.losses.Loss) -> None:
    loss._dtype_policy = keras.dtype_policies.get("float64")
    loss._dtype = "float64"


def unscaled(optimizer: Any) -> Any:
    """Return the optimizer itself where a loss scale optimizer is around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def build_optimizer(model: keras.Model) -> None:
    """Make what a model's optimizer keeps of its weights, if it is not made yet.

    A loss scale optimizer would make its own variables again, which no checkpoint has.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def put_averages_into(model: keras.Model) -> None:
    """Let the averages of weights be the weights, where a model's optimizer has any.

    They are what `fit` leaves in a model at its end, and what is validated.
    """
    optimizer = unscaled(getattr(model, "optimizer", None))
    if getattr(optimizer, "use_ema", False):
        optimizer.finalize_variable_values(model.trainable_variables)


def has_schedule(optimizer: Any) -> bool:
    """Return whether an optimizer's learning rate follows a schedule of Keras."""
    return not isinstance(unscaled(optimizer).learning_rate, keras.Variable)
