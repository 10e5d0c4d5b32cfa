"""A layer as a function of its variables' values, which can be run twice alike."""

from collections.abc import Iterable

import keras
from keras import ops

from keras_densenet.tensor import Tensor


class LayerFunction:
    """What a layer computes as a function of its variables' values, without effects.

    Attributes:
        layer: The layer, to be called in a `scope`.
        weights: The values of its trainable variables.
    """

    def __init__(self, layer: keras.Layer) -> None:
        self.layer = layer
        self._variables = layer.trainable_variables
        self._state = layer.non_trainable_variables
        # Copies: variables change after the first run, on PyTorch in place.
        self.weights = [ops.copy(v) for v in self._variables]
        self._state_values = [ops.copy(v) for v in self._state]

    def scope(self, weights: Iterable[Tensor]) -> keras.StatelessScope:
        """Return a scope in which the layer reads these weights and the first state."""
        variables = [*self._variables, *self._state]
        values = [*weights, *self._state_values]
        return keras.StatelessScope(list(zip(variables, values, strict=True)))

    def new_state(self, scope: keras.StatelessScope) -> list[Tensor]:
        """Return the state as a run in the scope would have left it."""
        return [scope.get_current_value(v) for v in self._state]

    def assign(self, state: Iterable[Tensor]) -> None:
        """Write what a run has changed: moving statistics and seeds of dropout."""
        for variable, old, new in zip(
            self._state, self._state_values, state, strict=True
        ):
            if new is not old:  # the weights of a frozen layer stay the same objects
                variable.assign(new)
