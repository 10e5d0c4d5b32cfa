"""Looking inside of a model: its layers, through models within it, and their calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_densenet.model_output import is_functional


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
