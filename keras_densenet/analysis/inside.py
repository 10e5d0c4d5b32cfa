"""Looking inside of a model: its layers, through models within it, and their calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_densenet.model_output import (
    averages_answers,
    is_functional,
    last_activation,
    output_of,
)

TINY = np.finfo("float32").tiny


def layers_within(model: keras.Model) -> Iterator[keras.Layer]:
    """Iterate over a model's layers in their order, those of models within it in place.

    A functional or sequential model within comes after its own layers, as its output
    does. Other layers, subclassed models among them, are not looked into.
    """
    for layer in model.layers:
        if is_functional(layer):
            yield from layers_within(layer)
        yield layer


def parts_of(model: keras.Model, kind: type) -> list[Any]:
    """Return a model's layers of a class in their order, through models of any kind."""
    parts: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, kind):
            parts.append(layer)
        elif isinstance(layer, keras.Model):
            parts += parts_of(layer, kind)
    return parts


@contextmanager
def replaced(layer: Any, attribute: str, value: Any) -> Iterator[None]:
    """Let an attribute of a layer, such as its `call`, be another for a while.

    A copy of the model would need its memory again, and layers that are called anew
    would keep the new calls.
    """
    is_own = attribute in vars(layer)
    before = getattr(layer, attribute)
    setattr(layer, attribute, value)
    try:
        yield
    finally:
        if is_own:
            setattr(layer, attribute, before)
        else:
            delattr(layer, attribute)


@contextmanager
def without_last_activation(model: keras.Model) -> Iterator[None]:
    """Let a model answer what its softmax or sigmoid reads.

    The gradient of a probability that is nearly 0 or 1 vanishes.
    """
    name, layer = last_activation(model)
    if name in ("linear", "unknown"):
        yield
    elif hasattr(layer, "activation"):
        with replaced(layer, "activation", keras.activations.linear):
            yield
    else:
        with replaced(layer, "call", lambda x, *_, **__: x):
            yield


@contextmanager
def answering_logits(
    model: keras.Model,
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Let `model.predict` answer logits for a while.

    Those of a probability that is nearly 1 could not be computed from it. Where they
    can only be: of means of probabilities, and of answers that nobody knows, which are
    taken for probabilities of one class a picture.

    Returns:
        What turns the answers into logits.
    """
    kind = output_of(model).kind
    if kind == "unknown" or (kind in _OF_MEANS and averages_answers(model)):
        yield _OF_MEANS.get(kind, _logarithms)
        return
    # The function of before calls the activation.
    with without_last_activation(model), replaced(model, "predict_function", None):
        yield lambda answers: answers


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, "float64"), TINY))


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    return _logarithms(probabilities) - _logarithms(1 - probabilities)


_OF_MEANS = {"softmax": _logarithms, "sigmoid": _log_odds}
